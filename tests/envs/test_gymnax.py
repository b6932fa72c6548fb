"""Environments of gymnax behind the interface of all functional ones."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kanbatsu.envs.functional import FunctionalEnvironment, HostedEnvironment
from kanbatsu.envs.library import load
from kanbatsu.envs.make import make
from kanbatsu.envs.spec import TaskError
from kanbatsu.types import Spec

BREAKOUT = load("gymnax/Breakout-MinAtar")


def test_breakout_is_gymnaxs_breakout_laid_out_flat():
    import gymnax

    simulator, params = gymnax.make("Breakout-MinAtar")
    key = jax.random.key(3)
    state, obs = BREAKOUT.reset(key)
    with jax.numpy_dtype_promotion("standard"):
        image, theirs = simulator.reset_env(key, params)
    assert obs.dtype == jnp.float32
    assert np.array_equal(obs.reshape(10, 10, 4), image)
    step, their_step, ends = jax.jit(BREAKOUT.step), jax.jit(simulator.step_env), []
    for interaction in range(60):
        action = int(interaction > 3)  # wait, then go to the left and stay there
        state, ours = step(state, jax.nn.one_hot(action, 3), key)
        with jax.numpy_dtype_promotion("standard"):
            image, theirs, reward, done, _ = their_step(key, theirs, action, params)
        assert np.array_equal(ours.obs.reshape(10, 10, 4), image)
        assert (float(ours.reward), bool(ours.terminated)) == (float(reward), bool(done))
        ends.append(bool(ours.terminated))
        assert not ours.truncated
    assert any(ends)  # a ball that nobody returns


def test_an_image_stays_one_where_it_is_asked_for():
    images = load("gymnax/Breakout-MinAtar", images=True)
    assert (images.spec.obs_shape, images.spec.obs_dtype) == ((10, 10, 4), "uint8")
    key, wait = jax.random.key(3), jnp.array([1.0, 0.0, 0.0])
    (state, obs), (_, flat) = images.reset(key), BREAKOUT.reset(key)
    assert np.array_equal(obs.ravel(), 255 * np.asarray(flat, np.uint8))
    _, step = images.step(state, wait, key)
    assert (step.obs.shape, step.obs.dtype) == ((10, 10, 4), jnp.uint8)
    assert load("gymnax/CartPole-v1", images=True).spec == load("gymnax/CartPole-v1").spec


def test_the_time_limit_truncates_and_does_not_terminate():
    environment = load("gymnax/MountainCar-v0")
    assert environment.spec == Spec((2,), action_dim=3, episode_length=200, discrete=True)
    state, _ = environment.reset(jax.random.key(0))

    def decide(state, key):
        state, step = environment.step(state, jnp.array([0.0, 1.0, 0.0]), key)
        return state, (step.terminated, step.truncated)

    keys = jax.random.split(jax.random.key(1), 200)
    _, (terminated, truncated) = jax.lax.scan(decide, state, keys)
    assert not terminated.any()
    assert truncated.tolist() == [False] * 199 + [True]


def test_continuous_actions_are_scaled_to_the_bounds():
    environment = load("gymnax/Pendulum-v1")
    assert not environment.spec.discrete
    key = jax.random.key(0)
    state, _ = environment.reset(key)
    free, pushed, beyond = (
        environment.step(state, jnp.array([a]), key)[1].obs[2] for a in (0.0, 1.0, 5.0)
    )
    # The motor's 2 N m are worth 3 / (m l^2) * 2 * 0.05 s = 0.3 rad/s.
    assert float(pushed - free) == pytest.approx(0.3, abs=1e-5)
    assert float(beyond) == float(pushed)


def test_a_task_of_gymnax_is_made_like_any_other():
    made = make("gymnax/Breakout-MinAtar", discrete=True)
    assert isinstance(made, HostedEnvironment)
    assert isinstance(made.functional, FunctionalEnvironment)
    assert made.functional == BREAKOUT
    with pytest.raises(TaskError, match=r"Breakout-MinAtar has discrete actions.*stream_q"):
        make("gymnax/Breakout-MinAtar")
    with pytest.raises(TaskError, match=re.escape("Did you mean 'gymnax/Breakout-MinAtar'")):
        make("gymnax/Brekout-MinAtar")


def test_what_is_no_box_is_refused_by_name():
    with pytest.raises(TaskError, match="gymnax/FrozenLake-misc has observations"):
        load("gymnax/FrozenLake-misc")
