"""ObGD: numbers computed by hand, its bound, and what happens without it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kanbatsu.agents.obgd import bounded_step, cut_trace, extend_trace
from kanbatsu.sparsity.weight import Masked

DECAY = 0.792  # 0.99 * 0.8


def two_steps(weight, mask=None):
    """Two updates with gradients of -V, so that moves are subtracted."""
    trace = jnp.zeros(2)
    for gradient, td_error in (([1.0, -2.0], 0.5), ([0.0, 1.0], -3.0)):
        gradient = jnp.array(gradient) * (1.0 if mask is None else mask)
        trace = extend_trace(trace, gradient, DECAY)
        move, _ = bounded_step(trace, jnp.float32(td_error), learning_rate=1.0, kappa=2.0)
        weight = weight - move
        yield weight


def test_golden_numbers():
    # M = 1 * 2 * max(0.5, 1) * 3 = 6; then trace [0.792, -0.584], M = 2 * 3 * 1.376.
    first, second = two_steps(jnp.array([0.5, -0.25]))
    np.testing.assert_allclose(first, [0.5 - 0.5 / 6, -0.25 + 1 / 6], rtol=1e-6)
    np.testing.assert_allclose(second, [0.704457, -0.295543], atol=5e-7)


def test_golden_numbers_with_a_mask():
    # The trace's norm is 1, not 3: half the step instead of a sixth.
    first, second = two_steps(jnp.array([0.5, -0.25]), mask=jnp.array([1.0, 0.0]))
    np.testing.assert_allclose(first, [0.25, -0.25], rtol=1e-6)
    np.testing.assert_allclose(second, [0.75, -0.25], rtol=1e-6)


def test_a_masked_weight_takes_the_same_two_steps():
    weight = Masked.of(jnp.array([0.5, 7.0]), jnp.array([True, False]))
    loss = lambda value, g: jnp.dot(Masked(value, weight.mask).array, g)  # noqa: E731
    value, trace = weight.value, jnp.zeros(2)
    for gradient, td_error in (([1.0, -2.0], 0.5), ([0.0, 1.0], -3.0)):
        trace = extend_trace(trace, jax.grad(loss)(value, jnp.array(gradient)), DECAY)
        move, _ = bounded_step(trace, jnp.float32(td_error), learning_rate=1.0, kappa=2.0)
        value = value - move
    np.testing.assert_allclose(value, [0.75, 0.0], rtol=1e-6)


@pytest.mark.parametrize("kappa", [2.0, 3.0])
@pytest.mark.parametrize("scale", [1e-3, 0.1, 1.0, 100.0])
@pytest.mark.parametrize("td_error", [-50.0, -1.0, 0.01, 3.0])
def test_all_weights_together_move_by_at_most_one_over_kappa(kappa, scale, td_error):
    keys = jax.random.split(jax.random.key(0), 2)
    trace = {
        "w": scale * jax.random.normal(keys[0], (20, 10)),
        "b": scale * jax.random.normal(keys[1], (10,)),
    }
    norm = sum(float(jnp.abs(e).sum()) for e in trace.values())
    bound = kappa * max(abs(td_error), 1.0) * norm
    move, facts = bounded_step(trace, jnp.float32(td_error), learning_rate=1.0, kappa=kappa)
    moved = sum(float(jnp.abs(w).sum()) for w in jax.tree.leaves(move))
    np.testing.assert_allclose(facts["trace_norm"], norm, rtol=1e-5)
    np.testing.assert_allclose(facts["step_size"], 1.0 / max(bound, 1.0), rtol=1e-5)
    if bound > 1.0:
        assert moved <= (1.0 + 1e-5) / kappa
    else:  # not bounded: plain gradient descent
        np.testing.assert_allclose(moved, abs(td_error) * norm, rtol=1e-5)


def test_the_bound_is_reached():
    move, _ = bounded_step(jnp.array([3.0, -1.0]), jnp.float32(5.0), learning_rate=1.0, kappa=2.0)
    np.testing.assert_allclose(jnp.abs(move).sum(), 0.5, rtol=1e-6)


def test_a_cut_trace_is_gone_and_another_one_stays():
    trace = {"w": jnp.array([1.0, -2.0])}
    assert cut_trace(trace, jnp.bool_(True))["w"].tolist() == [0.0, 0.0]
    assert cut_trace(trace, jnp.bool_(False))["w"].tolist() == [1.0, -2.0]
