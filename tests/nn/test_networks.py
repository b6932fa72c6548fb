"""Networks: published sizes, hand-computed outputs, initial scales."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kanbatsu
from kanbatsu.nn.config import NetworkConfig
from kanbatsu.nn.heads import GaussianHead, TanhHead, ValueHead, sample_tanh_normal
from kanbatsu.nn.layers import LayerNorm, Linear
from kanbatsu.nn.network import make_network
from kanbatsu.nn.normaliser import Normaliser
from kanbatsu.nn.simba import SimBa
from kanbatsu.sparsity.count import parameters

KEY = jax.random.key(0)
OBS, ACTION = 67, 21  # humanoid


def test_parameter_counts_are_the_published_ones():
    head = partial(GaussianHead, action_dim=ACTION)
    actor = make_network(NetworkConfig(width=128, blocks=1), OBS, head, key=KEY)
    critic = make_network(NetworkConfig(width=512, blocks=2), OBS + ACTION, ValueHead, key=KEY)
    assert (parameters(actor), parameters(critic)) == (146_346, 4_248_577)


def test_layer_norm_by_hand():
    # Mean 2, variance 2/3.
    x = jnp.array([[1.0, 2.0, 3.0]])
    expected = np.array([[-1.0, 0.0, 1.0]]) / math.sqrt(2 / 3 + 1e-6)
    np.testing.assert_allclose(LayerNorm(3)(x), expected, rtol=1e-6)


def test_simba_is_the_published_function():
    encoder = SimBa(3, width=4, blocks=2, key=KEY)
    x = np.asarray(jax.random.normal(KEY, (5, 3)), np.float64)

    def norm(h):
        return (h - h.mean(-1, keepdims=True)) / np.sqrt(h.var(-1, keepdims=True) + 1e-6)

    def linear(h, layer):
        return h @ np.asarray(layer.weight, np.float64) + np.asarray(layer.bias)

    h = linear(x, encoder.embed)
    for block in encoder.blocks:
        h = h + linear(np.maximum(linear(norm(h), block.up), 0.0), block.down)
    features, activations = encoder(jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(features, norm(h), rtol=1e-4, atol=1e-5)
    assert [a.shape for a in activations.values()] == [(5, 16), (5, 16)]
    assert all((a >= 0).all() for a in activations.values())


def test_initial_kernels():
    encoder = SimBa(8, width=64, blocks=1, key=KEY)
    embed = np.asarray(encoder.embed.weight)
    np.testing.assert_allclose(embed @ embed.T, np.eye(8), atol=1e-5)  # orthogonal, gain 1
    he = np.sqrt(2 / 64)
    assert np.asarray(encoder.blocks[0].up.weight).std() == pytest.approx(he, rel=0.05)
    mlp = make_network(NetworkConfig("mlp", 16, 2), 16, ValueHead, key=KEY).encoder
    weight = np.asarray(mlp.layers[1].weight)
    np.testing.assert_allclose(weight @ weight.T, 2 * np.eye(16), atol=1e-5)  # gain sqrt(2)


def test_the_same_key_draws_the_same_weights_dense_and_sparse():
    dense = make_network(NetworkConfig(width=16, blocks=1), 3, ValueHead, key=KEY)
    sparse = make_network(NetworkConfig(width=16, blocks=1, sparsity=0.6), 3, ValueHead, key=KEY)
    kernel = sparse.encoder.blocks[0].up.weight
    original = dense.encoder.blocks[0].up.weight
    np.testing.assert_array_equal(kernel.value, jnp.where(kernel.mask, original, 0.0))
    assert kanbatsu.count(sparse).sparsity == pytest.approx(0.6, abs=1e-3)


def test_networks_take_any_batch_axes():
    network = make_network(NetworkConfig(width=8, blocks=1, sparsity=0.5), 3, ValueHead, key=KEY)
    x = jax.random.normal(KEY, (2, 5, 3))
    np.testing.assert_allclose(network(x)[1, 4], network(x[1, 4]), rtol=1e-5)


def test_heads():
    head = GaussianHead(4, 2, key=KEY)
    mean, log_std = head(jnp.full((3, 4), 100.0))
    assert mean.shape == log_std.shape == (3, 2)
    assert (log_std >= -10).all()
    assert (log_std <= 2).all()
    _, middle = head(jnp.zeros(4))
    np.testing.assert_allclose(middle, -4.0)  # the middle of [-10, 2]
    assert (jnp.abs(TanhHead(4, 2, key=KEY)(jnp.full((3, 4), 100.0))) <= 1).all()


def test_tanh_normal_density_integrates_to_one():
    noise = jnp.linspace(-8.0, 8.0, 200_001)[:, None]
    mean, log_std = jnp.full_like(noise, 0.3), jnp.full_like(noise, -0.2)
    action, log_prob = sample_tanh_normal(mean, log_std, noise)
    a, p = np.asarray(action[:, 0], np.float64), np.exp(np.asarray(log_prob, np.float64))
    assert np.sum(0.5 * (p[1:] + p[:-1]) * np.diff(a)) == pytest.approx(1.0, abs=1e-3)


def test_normaliser_matches_numpy_over_uneven_batches():
    data = np.random.default_rng(0).normal(5.0, 3.0, (1000, 2)).astype(np.float32)
    normaliser = Normaliser.identity(2)
    for batch in np.split(data, [1, 2, 10, 400]):
        normaliser = normaliser.observe(jnp.asarray(batch))
    np.testing.assert_allclose(normaliser.mean, data.mean(0), rtol=1e-4)
    np.testing.assert_allclose(normaliser.variance, data.var(0), rtol=1e-3)
    assert normaliser.normalise(jnp.asarray(data)).std() == pytest.approx(1.0, rel=1e-2)


def test_linear_bias_starts_at_zero():
    layer = Linear(3, 2, jax.nn.initializers.he_normal(), key=KEY)
    np.testing.assert_array_equal(layer(jnp.zeros(3)), jnp.zeros(2))
