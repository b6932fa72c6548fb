"""The stream network: SparseInit's exact zeros, its normalisation, and masks that are not both."""

import dataclasses
import math
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kanbatsu.nn.layers import Linear
from kanbatsu.nn.stream import (
    NormalHead,
    StreamNetworkConfig,
    layer_norm,
    make_stream_masks,
    make_stream_network,
    sparse_init,
)
from kanbatsu.sparsity.count import count
from kanbatsu.sparsity.weight import Masked, to_dense

KEY = jax.random.key(0)
WIDTH = 32  # of inputs too, and throughout: each shape is compiled once
HEADS = {"normal": partial(NormalHead, action_dim=3), "value": partial(Linear, outputs=1)}


@pytest.mark.parametrize("inputs", [5, 11, 70])
def test_each_unit_loses_exactly_nine_tenths_of_its_inputs_rounded_up(inputs):
    kernel = np.asarray(sparse_init(KEY, (inputs, 6)))
    assert ((kernel == 0).sum(axis=0) == -(-9 * inputs // 10)).all()
    assert np.abs(kernel).max() <= 1 / math.sqrt(inputs)


def test_each_unit_loses_inputs_of_its_own():
    gone = np.asarray(sparse_init(KEY, (100, 2_000)) == 0)
    assert len({tuple(column) for column in gone.T}) == 2_000
    # Every input is as likely as any other: 1,800 units lose it, within five deviations of 13.4.
    assert np.abs(gone.sum(axis=1) - 1_800).max() < 67


def test_what_starts_at_zero_is_uniform_elsewhere():
    kernel = np.asarray(sparse_init(KEY, (100, 2_000)))
    kept = kernel[kernel != 0] * math.sqrt(100)
    assert abs(kept.mean()) < 0.03
    np.testing.assert_allclose(kept.var(), 1 / 3, rtol=0.05)


def test_no_initial_sparsity_means_no_zeros():
    assert (sparse_init(KEY, (WIDTH, WIDTH), sparsity=0.0) != 0).all()


@pytest.mark.parametrize("head", HEADS)
def test_every_kernel_of_a_network_starts_sparse_its_heads_too(head):
    network = make_stream_network(StreamNetworkConfig(width=WIDTH), WIDTH, HEADS[head], key=KEY)
    kernels = [x for x in jax.tree.leaves(network) if x.ndim == 2]
    assert len(kernels) == (4 if head == "normal" else 3)
    for kernel in kernels:
        zeros = (np.asarray(kernel) == 0).sum(axis=0)
        assert (zeros == -(-9 * len(kernel) // 10)).all()
    assert all((x == 0).all() for x in jax.tree.leaves(network) if x.ndim == 1)  # biases


def test_a_layer_has_mean_zero_variance_one_and_nothing_to_learn():
    x = 3.0 + 5.0 * jax.random.normal(KEY, (4, 64))
    y = np.asarray(layer_norm(x))
    np.testing.assert_allclose(y.mean(axis=-1), 0.0, atol=1e-5)
    np.testing.assert_allclose(y.var(axis=-1), 1.0, rtol=1e-4)
    # [1, 3] has variance 1: the epsilon is what is missing to 1.
    np.testing.assert_allclose(layer_norm(jnp.array([1.0, 3.0]))[1], 1 / math.sqrt(1 + 1e-5))


def test_the_network_is_linear_norm_leaky_relu_and_a_bare_head():
    network = make_stream_network(StreamNetworkConfig(width=WIDTH), WIDTH, HEADS["value"], key=KEY)
    x = np.asarray(jax.random.normal(KEY, (WIDTH,)), np.float64)
    for layer in network.layers:
        x = x @ np.asarray(layer.weight, np.float64) + np.asarray(layer.bias, np.float64)
        x = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
        x = np.where(x > 0, x, 0.01 * x)
    x = x @ np.asarray(network.head.weight) + np.asarray(network.head.bias)
    np.testing.assert_allclose(network(jax.random.normal(KEY, (WIDTH,))), x, rtol=1e-4, atol=1e-6)


def test_initial_zeros_train_and_a_mask_does_not():
    config = StreamNetworkConfig(width=WIDTH, sparsity=0.5)
    network = make_stream_network(config, WIDTH, HEADS["value"], key=KEY)
    assert count(network).sparsity == pytest.approx(0.5, abs=0.002)
    loss = lambda net, x: (net(x) ** 2).sum() + (net.encode(x)[0] ** 3).sum()  # noqa: E731
    gradient = eqx.filter_jit(eqx.filter_grad(loss))(network, jax.random.normal(KEY, (8, WIDTH)))
    weight, slope = network.layers[0].weight, gradient.layers[0].weight.value
    assert isinstance(weight, Masked)
    mask, start = np.asarray(weight.mask), np.asarray(weight.value)
    assert (start[~mask] == 0).all()
    assert (np.asarray(slope)[~mask] == 0).all()
    waiting = mask & (start == 0)  # SparseInit's zeros that the mask keeps
    assert waiting.sum() > 50
    assert (np.asarray(slope)[waiting] != 0).mean() > 0.5


@pytest.mark.parametrize("initial_sparsity", [0.0, 0.9])
@pytest.mark.parametrize("sparsity", [0.0, 0.6])
def test_all_four_combinations_start_with_the_zeros_that_they_say(initial_sparsity, sparsity):
    config = StreamNetworkConfig(width=WIDTH, initial_sparsity=initial_sparsity, sparsity=sparsity)
    network = make_stream_network(config, WIDTH, HEADS["value"], key=KEY)
    layer = to_dense(network.layers[1].weight)
    kept = count(network).layers[1].kept / layer.size
    started = math.ceil(initial_sparsity * WIDTH) / WIDTH
    expected = 1.0 - kept * (1.0 - started)
    assert float((layer == 0).mean()) == pytest.approx(expected, abs=0.03)


def test_masks_given_make_the_network_that_the_key_would_have_made():
    config = StreamNetworkConfig(width=WIDTH, sparsity=0.5)
    recipe = {"config": config, "inputs": WIDTH, "make_head": HEADS["normal"], "key": KEY}
    drawn = make_stream_network(**recipe)
    given = make_stream_network(**recipe, masks=make_stream_masks(**recipe))
    x = jax.random.normal(KEY, (5, WIDTH))
    for ours, theirs in zip(drawn(x), given(x), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("pattern", ["element", "grouped"])
def test_packed_weights_are_the_same_function_for_one_sample(pattern):
    config = StreamNetworkConfig(width=WIDTH, sparsity=0.8, pattern=pattern, distribution="uniform")
    packed = dataclasses.replace(config, compute="packed")
    x = jax.random.normal(KEY, (WIDTH,))

    def value_and_slope(config):
        network = make_stream_network(config, WIDTH, HEADS["value"], key=KEY)
        loss = lambda net, x: net(x)[0]  # noqa: E731
        both = eqx.filter_jit(eqx.filter_value_and_grad(lambda both: loss(*both)))
        value, slopes = both((network, x))
        return value, slopes[1], slopes[0].layers[0].bias

    for ours, theirs in zip(value_and_slope(config), value_and_slope(packed), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
