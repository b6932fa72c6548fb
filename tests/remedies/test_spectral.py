"""Spectral normalisation against numpy's singular values and against a gradient through them."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kanbatsu.agents.remedied import Pace, remedied
from kanbatsu.nn.layers import Linear
from kanbatsu.nn.mlp import MLP
from kanbatsu.nn.network import Network
from kanbatsu.remedies import fresh
from kanbatsu.remedies.parts import Part, trainable
from kanbatsu.remedies.records import L2Init, SpectralNorm
from kanbatsu.remedies.spectral import hidden_matrices, settled, spectral
from kanbatsu.remedies.terms import with_terms
from kanbatsu.sparsity.weight import Masked, to_dense

BOUND = 2.0


def network_of(key, sparse=True):
    """Return a network of two hidden layers of 8, the second under a mask."""
    encoder_key, head_key, mask_key = jax.random.split(key, 3)
    network = Network(
        MLP(5, 8, 2, key=encoder_key), Linear(8, 1, jax.nn.initializers.ones, key=head_key)
    )
    if not sparse:
        return network
    weight = network.encoder.layers[1].weight
    mask = jax.random.uniform(mask_key, weight.shape) < 0.4
    return eqx.tree_at(lambda n: n.encoder.layers[1].weight, network, Masked.of(weight, mask))


def begun(optimizer, network, target=False):
    """Return a part as training begins with it."""
    part = Part(network, optimizer.init(trainable(network)), network if target else None)
    return settled(part)


def largest(weight):
    return np.linalg.svd(np.asarray(to_dense(weight)), compute_uv=False)[0]


def stepped(optimizer, part, gradient):
    with jax.numpy_dtype_promotion("standard"):  # of optax's integer counts
        updates, moments = optimizer.update(gradient, part.moments, trainable(part.network))
    return part._replace(network=eqx.apply_updates(part.network, updates), moments=moments)


@pytest.mark.parametrize("last", [True, False])
def test_normalised_matrices_have_the_bound_as_their_largest_singular_value(last):
    drawn = network_of(jax.random.key(0))
    part = begun(spectral(optax.sgd(0.1), BOUND, last), drawn, target=True)
    first, second = (layer.weight for layer in part.network.encoder.layers)
    assert largest(second) == pytest.approx(BOUND, rel=1e-4)
    own = largest(drawn.encoder.layers[0].weight)
    assert largest(first) == pytest.approx(own if last else BOUND, rel=1e-4)
    path = "encoder/layers/1/weight/value"
    ratio = largest(drawn.encoder.layers[1].weight) / BOUND
    assert float(part.moments.norms.scales[path]) == pytest.approx(ratio, rel=1e-4)
    np.testing.assert_array_equal(part.network.head.weight, drawn.head.weight)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, part.network, part.target))


def test_a_step_is_one_of_gradient_descent_through_the_division():
    drawn, x = network_of(jax.random.key(1)), jax.random.normal(jax.random.key(2), (7, 5))
    mask = drawn.encoder.layers[1].weight.mask

    def behind(value):
        """Return the loss of the weights that train, by numpy's own notion of their norm."""
        normal = BOUND * value / jnp.linalg.norm(value, ord=2)
        at = lambda n: n.encoder.layers[1].weight  # noqa: E731
        return (eqx.tree_at(at, drawn, normal)(x) ** 2).mean()

    value = drawn.encoder.layers[1].weight.value
    trained = value - 0.01 * jnp.where(mask, jax.grad(behind)(value), 0.0)
    expected = BOUND * trained / jnp.linalg.norm(trained, ord=2)

    optimizer = spectral(optax.sgd(0.01), BOUND, last=True)
    part = begun(optimizer, drawn)
    gradient = eqx.filter_grad(lambda n: (n(x) ** 2).mean())(part.network)
    part = stepped(optimizer, part, gradient)
    new = part.network.encoder.layers[1].weight
    np.testing.assert_allclose(new.value, expected, rtol=1e-3, atol=1e-4)
    assert not np.asarray(new.value)[~np.asarray(mask)].any()
    assert not np.allclose(expected, BOUND * value / largest(value), atol=1e-2)


def test_one_iteration_for_each_step_follows_a_network_that_trains():
    optimizer = spectral(optax.adam(1e-2), 1.0, last=False)
    part = begun(optimizer, network_of(jax.random.key(3)))
    x = jax.random.normal(jax.random.key(4), (16, 5))

    @jax.jit
    def step(part):
        gradient = eqx.filter_grad(lambda n: ((n(x)[:, 0] - x[:, 0]) ** 2).mean())(part.network)
        return stepped(optimizer, part, gradient)

    for _ in range(200):
        part = step(part)
    for layer in part.network.encoder.layers:
        assert largest(layer.weight) == pytest.approx(1.0, rel=0.02)
    scales = [float(x) for x in part.moments.norms.scales.values()]
    assert max(abs(x - 1.0) for x in scales) > 0.05


def test_a_reset_draws_the_weights_behind_anew_and_normalises_them():
    remedies = (SpectralNorm(layers="all"), L2Init(strength=0.5))
    optimizer = with_terms(optax.adam(1e-2), remedies, "critic")
    old, new = (network_of(jax.random.key(key)) for key in (5, 6))
    masked = eqx.tree_at(
        lambda n: n.encoder.layers[1].weight,
        new,
        old.encoder.layers[1].weight.like(
            to_dense(network_of(jax.random.key(6), sparse=False).encoder.layers[1].weight)
        ),
    )
    expected = begun(optimizer, masked)
    ones = jax.tree.map(jnp.ones_like, trainable(old))
    part = stepped(optimizer, begun(optimizer, old), ones)
    part = settled(fresh.reset(part, network_of(jax.random.key(6), sparse=False)))
    for a, b in zip(
        jax.tree.leaves((part.network, part.moments.inner, part.moments.norms.scales)),
        jax.tree.leaves((expected.network, expected.moments.inner, expected.moments.norms.scales)),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def last_of_critics(state):
    """Return the normalised matrices of the first of two runs side by side."""
    critics = jax.tree.map(lambda leaf: leaf[0], trainable(state.inner.critics))
    return hidden_matrices(critics, last=True)


@pytest.fixture(scope="module")
def both(agent):
    """Return an agent with normalised critics, and two of its states side by side."""
    with_norm = remedied(agent, (SpectralNorm(of="critic"),), Pace(0, 1, 1, 10))
    states = map(with_norm.init, jax.random.split(jax.random.key(0), 2))
    return with_norm, jax.tree.map(lambda *each: jnp.stack(each), *states)


def test_agents_begin_normalised_where_asked_for(agent, both):
    matrices = last_of_critics(both[1])
    assert list(matrices) == [f"{at}/encoder/blocks/0/down/weight/value" for at in range(2)]
    for matrix in matrices.values():
        assert largest(matrix) == pytest.approx(1.0, rel=1e-3)
    plain = agent.init(jax.random.split(jax.random.key(0), 2)[0]).actor
    own = jax.tree.map(lambda leaf: leaf[0], both[1].inner.actor)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, own, plain))


@pytest.mark.slow
def test_agents_stay_normalised_side_by_side(both, batches):
    with_norm, states = both
    keys = jax.random.split(jax.random.key(1), 2)
    after, _ = jax.jit(jax.vmap(with_norm.update))(states, batches, keys)
    for path, matrix in last_of_critics(after).items():
        assert largest(matrix) == pytest.approx(1.0, rel=1e-2)
        assert not np.array_equal(matrix, last_of_critics(states)[path])
