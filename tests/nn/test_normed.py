"""The network of action values, and its convolution beside XLA's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kanbatsu
from kanbatsu.nn.conv import Conv
from kanbatsu.nn.normed import NormedNetworkConfig, make_normed_masks, make_normed_network
from kanbatsu.sparsity.weight import Masked

KEY = jax.random.key(0)
HE = jax.nn.initializers.he_normal()


@pytest.mark.parametrize(("window", "stride"), [(3, 1), (3, 2), (1, 1), (2, 3)])
def test_a_convolution_is_that_of_xla(window, stride):
    conv = Conv(4, 6, HE, window=window, stride=stride, key=KEY)
    mask = jax.random.bernoulli(jax.random.key(1), 0.5, conv.weight.shape)
    object.__setattr__(conv, "weight", Masked.of(conv.weight, mask))
    x = jax.random.normal(KEY, (2, 9, 7, 4))
    expected = jax.lax.conv_general_dilated(
        x, conv.weight.value, (stride, stride), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(conv(x), expected, rtol=1e-4, atol=1e-5)
    gradient = jax.grad(lambda weight: (_with(conv, weight)(x) ** 2).sum(), allow_int=True)
    moved = np.asarray(gradient(conv.weight).value) != 0
    assert np.array_equal(moved, mask)


def _with(conv, weight):
    return jax.tree.unflatten(
        jax.tree.structure(conv), jax.tree.leaves(weight) + jax.tree.leaves(conv)[2:]
    )


def test_every_kernel_is_counted_and_pruned_by_the_rule_of_four_axes():
    config = NormedNetworkConfig(width=16, sparsity=0.8)
    network = make_normed_network(config, (10, 10, 4), 3, key=KEY)
    counted = kanbatsu.count(network)
    assert counted.total == 3 * 3 * 4 * 16 + 8 * 8 * 16 * 16 + 16 * 3
    assert counted.kept == round(0.2 * counted.total)
    kept = {layer.path: layer.kept for layer in counted.layers}
    # Shares as 3 + 3 + 4 + 16 to 1,024 + 16; the head, 16 + 3, would get more than all it has.
    assert kept == {"conv/weight": 82, "layers/0/weight": 3_272, "head/weight": 48}


def test_masks_are_those_that_are_drawn_and_dense_weights_do_not_depend_on_them():
    config = NormedNetworkConfig(width=16, sparsity=0.5)
    network = make_normed_network(config, (5,), 3, key=KEY)
    masks = make_normed_masks(config, (5,), 3, key=KEY)
    dense = make_normed_network(NormedNetworkConfig(width=16), (5,), 3, key=KEY)
    assert network.conv is None
    for own, mask, full in zip(network.layers, masks.layers, dense.layers, strict=True):
        np.testing.assert_array_equal(own.weight.mask, mask.weight)
        np.testing.assert_array_equal(own.weight.value, jnp.where(mask.weight, full.weight, 0.0))


def test_bytes_are_seen_as_shares_of_255():
    network = make_normed_network(NormedNetworkConfig(width=16), (4, 4, 2), 3, key=KEY)
    pixels = jax.random.randint(KEY, (5, 4, 4, 2), 0, 256)
    np.testing.assert_allclose(
        network(pixels.astype(jnp.uint8)), network(pixels.astype(jnp.float32) / 255.0), rtol=1e-5
    )
