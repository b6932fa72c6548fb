"""ReDo: what is recycled, what is left, and the function on the batch that was looked at."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kanbatsu.nn.config import NetworkConfig
from kanbatsu.nn.heads import ValueHead
from kanbatsu.nn.mlp import MLP
from kanbatsu.nn.network import Network, make_dense_network, make_network
from kanbatsu.nn.normed import NormedNetworkConfig, make_normed_network
from kanbatsu.remedies.parts import mirrored, trainable
from kanbatsu.remedies.recycle import inputs_of, recycle
from kanbatsu.remedies.wiring import wires
from kanbatsu.sparsity.weight import Masked, to_dense

X = jax.random.normal(jax.random.key(1), (32, 3))


def silenced(network, wire, units):
    """Let units of a layer never fire: a bias far below zero."""
    bias = wire.into(network).bias.at[jnp.array(units)].set(-100.0)
    return eqx.tree_at(lambda tree: wire.into(tree).bias, network, bias)


def case(kind, sparsity):
    config = NetworkConfig(
        network=kind, width=8, blocks=2, sparsity=sparsity, distribution="uniform", compute="masked"
    )
    network = make_network(config, 3, ValueHead, key=jax.random.key(0))
    dense = make_dense_network(config, 3, ValueHead, key=jax.random.key(5))
    return silenced(network, wires(network)[0], [1, 4]), dense


@pytest.mark.parametrize(("kind", "sparsity"), [("simba", 0.0), ("mlp", 0.5)])
def test_units_that_never_fired_are_recycled_without_changing_the_function(kind, sparsity):
    network, dense = case(kind, sparsity)
    activations = network.encode(X)[1]
    done = recycle(network, dense, activations, 0.0)
    assert int(done.units) >= 2
    np.testing.assert_array_equal(done.network(X), network(X))  # to the bit

    wire = wires(network)[0]
    new, old, drawn = (wire.into(tree) for tree in (done.network, network, dense))
    was_dormant = ~(np.asarray(activations[wire.activations]) > 0).any(axis=0)
    has = np.asarray(inputs_of(old.weight)) > 0
    assert was_dormant[[1, 4]].all()
    changed = was_dormant & has
    kept = np.ones(new.weight.shape) if sparsity == 0 else np.asarray(old.weight.mask)
    np.testing.assert_array_equal(
        to_dense(new.weight),
        np.where(changed, np.asarray(drawn.weight) * kept, to_dense(old.weight)),
    )
    np.testing.assert_array_equal(new.bias, np.where(changed, 0.0, old.bias))
    again = recycle(done.network, dense, done.network.encode(X)[1], 0.0)
    assert int(again.units) < int(done.units)


def test_moments_of_what_was_recycled_are_zero_and_others_stay():
    network, dense = case("mlp", 0.5)
    done = recycle(network, dense, network.encode(X)[1], 0.0)
    ones = jax.tree.map(jnp.ones_like, trainable(network))
    moments = mirrored(optax.adam(1.0).init(trainable(network)), network, lambda _: ones)
    adam = mirrored(moments, network, done.forget)[0]
    wire, units = wires(network)[0], jnp.array([1, 4])
    others = np.flatnonzero(np.asarray(network.encode(X)[1]["hidden0"]).any(axis=0))
    for tree in (adam.mu, adam.nu):
        into, (out,) = wire.into(tree), wire.out(tree)
        assert (into.weight.value[:, units] == 0).all()
        assert (into.bias[units] == 0).all()
        assert (out.weight.value[units] == 0).all()
        assert (into.bias[others] == 1).all()
        mask = np.asarray(wire.into(network).weight.mask)[:, others]
        assert (np.asarray(into.weight.value)[:, others] == mask).all()


def test_units_that_a_mask_leaves_without_inputs_are_reported_apart():
    network, dense = case("mlp", 0.0)
    mask = jnp.ones((3, 8), bool).at[:, 2].set(False)
    weight = Masked.of(network.encoder.layers[0].weight, mask)
    network = eqx.tree_at(lambda n: n.encoder.layers[0].weight, network, weight)
    with_all = recycle(case("mlp", 0.0)[0], dense, case("mlp", 0.0)[0].encode(X)[1], 0.0)
    done = recycle(network, dense, network.encode(X)[1], 0.0)
    assert int(done.cut_off) == 1
    assert int(with_all.cut_off) == 0
    rows = np.asarray(network.encoder.layers[1].weight)[2]
    columns = np.asarray(to_dense(done.network.encoder.layers[0].weight))[:, 2]
    assert (columns == 0).all()
    assert (np.asarray(done.network.encoder.layers[1].weight)[2] == rows).mean() > 0.5


def test_a_unit_of_a_convolution_is_a_channel():
    config = NormedNetworkConfig(width=6, channels=4)
    network, dense = (
        make_normed_network(config, (5, 5, 2), 3, key=jax.random.key(k)) for k in (0, 1)
    )
    network = eqx.tree_at(lambda n: n.norms[0].shift, network, jnp.array([0.0, -99.0, 0.0, 0.0]))
    images = jax.random.uniform(jax.random.key(2), (8, 5, 5, 2))
    done = recycle(network, dense, network.encode(images)[1], 0.0)
    new, old = np.asarray(done.network.conv.weight), np.asarray(network.conv.weight)
    np.testing.assert_array_equal(new[..., 1], np.asarray(dense.conv.weight)[..., 1])
    np.testing.assert_array_equal(new[..., 3], old[..., 3])
    assert float(done.network.norms[0].shift[1]) == 0.0
    rows = np.asarray(done.network.layers[0].weight).reshape(3, 3, 4, 6)
    np.testing.assert_array_equal(done.network(images).shape, (8, 3))
    silent = ~(np.asarray(network.encode(images)[1]["hidden0"]) > 0).any(axis=0)
    assert (rows[:, :, 1][..., ~silent] == 0).all()
    assert (rows[:, :, 3] != 0).any()


def test_layers_that_add_to_their_inputs_are_refused():
    encoder = MLP(3, width=4, blocks=2, residual=True, key=jax.random.key(0))
    with pytest.raises(ValueError, match="feed more than the layer after them"):
        wires(Network(encoder, ValueHead(4, key=jax.random.key(1))))
