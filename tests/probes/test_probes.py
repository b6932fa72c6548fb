"""Probes: numbers computed by hand, and the cases in which naive formulas fail."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kanbatsu.probes.dormant import dormant_ratio, dormant_units
from kanbatsu.probes.health import network_health
from kanbatsu.probes.norms import feature_norm, tree_norm
from kanbatsu.probes.rank import srank
from kanbatsu.sparsity.weight import Masked


def test_dormant_threshold_by_hand():
    # Mean activity 0.1, 1.0, 2.9: mean of the layer 4/3, scores 0.075, 0.75, 2.175.
    activations = jnp.array([[0.2, 0.0, 3.0], [0.0, 2.0, 2.8]])
    assert dormant_units(activations, 0.1).tolist() == [True, False, False]
    assert dormant_units(activations, 0.05).tolist() == [False, False, False]


def test_a_layer_that_never_fires_is_dormant_throughout():
    assert dormant_units(jnp.zeros((4, 3)), 0.025).all()


def test_the_total_counts_units_not_layers():
    layers = {"wide": jnp.ones((2, 6)), "narrow": jnp.array([[0.0, 1.0]] * 2)}
    ratio = dormant_ratio(layers, 0.1)
    assert float(ratio[""]) == pytest.approx(1 / 8)
    assert float(ratio["narrow"]) == 0.5


@pytest.mark.parametrize("rank", [1, 3, 7])
def test_srank_of_equal_directions_is_the_rank(rank):
    basis = jnp.linalg.qr(jax.random.normal(jax.random.key(rank), (50, 10)))[0]
    features = basis[:, :rank] @ jnp.eye(rank, 10)
    assert int(srank(features)) == rank


def test_srank_uses_the_sum_of_singular_values():
    # 98 + 1 + 1: 99 % are reached by the second; of the squares the first alone would do.
    assert int(srank(jnp.diag(jnp.array([98.0, 1.0, 1.0])))) == 2


def test_norms():
    assert float(tree_norm({"a": jnp.array([1.0, 2.0]), "b": (jnp.array([[2.0]]),)})) == 3.0
    masked = Masked.of(jnp.array([[3.0, 4.0]]), jnp.array([[True, False]]))
    assert float(tree_norm(masked)) == 3.0  # neither the pruned weight nor the mask counts
    assert float(feature_norm(jnp.array([[3.0, 4.0], [6.0, 8.0]]))) == 7.5


def test_health_names_and_values():
    x = jax.random.normal(jax.random.key(0), (64, 8))
    health = network_health({"w": x}, {"w": x}, x, {"block0": jax.nn.relu(x)})
    assert set(health) == {
        "dormant_0.1",
        "dormant_0.1/block0",
        "dormant_0.025",
        "dormant_0.025/block0",
        "srank",
        "gradient_norm",
        "weight_norm",
        "feature_norm",
    }
    assert all(np.isfinite(value) and value.shape == () for value in health.values())
