"""Functional environments: the same worlds as Gymnasium's, with time, with one-hot actions."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kanbatsu.envs.classic import CartPole, Clock, Pendulum
from kanbatsu.envs.functional import HostedEnvironment
from kanbatsu.envs.gym import GymEnvironment
from kanbatsu.envs.make import make
from kanbatsu.envs.spec import Environment, TaskError
from kanbatsu.envs.timed import TimedEnvironment, TimedFunctional, add_time

KEY = jax.random.key(0)


def test_cart_pole_is_gymnasiums():
    theirs = gymnasium.make("CartPole-v1").unwrapped
    start, _ = theirs.reset(seed=3)
    state, step = Clock(jnp.asarray(start, jnp.float32), jnp.int32(0)), jax.jit(CartPole().step)
    rng, ended = np.random.default_rng(0), False
    for _ in range(60):
        action = int(rng.integers(2))
        obs, reward, ended, _, _ = theirs.step(action)
        state, ours = step(state, jax.nn.one_hot(action, 2), KEY)
        np.testing.assert_allclose(ours.obs, obs, rtol=1e-3, atol=1e-5)
        assert (float(ours.reward), bool(ours.terminated)) == (reward, ended)
        if ended:
            break
    assert ended


def test_pendulum_is_gymnasiums():
    theirs = gymnasium.make("Pendulum-v1").unwrapped
    theirs.reset(seed=3)
    state, step = (
        Clock(jnp.asarray(theirs.state, jnp.float32), jnp.int32(0)),
        jax.jit(Pendulum().step),
    )
    rng = np.random.default_rng(0)
    for _ in range(40):
        action = rng.uniform(-1.5, 1.5)  # beyond the bounds too: both clip
        obs, reward, *_ = theirs.step(np.array([2.0 * action]))
        state, ours = step(state, jnp.array([action], jnp.float32), KEY)
        np.testing.assert_allclose(ours.obs, obs, atol=2e-3)
        np.testing.assert_allclose(ours.reward, reward, atol=2e-2)


@pytest.mark.parametrize(("world", "limit"), [(CartPole(), 500), (Pendulum(), 200)])
def test_episodes_are_cut_off_at_their_limit(world, limit):
    _, obs = world.reset(KEY)
    assert obs.shape == (world.spec.obs_dim,)
    still = Clock(jnp.zeros(4 if world.spec.discrete else 2), jnp.int32(limit - 2))
    step = jax.jit(world.step)
    after, first = step(still, jnp.zeros(world.spec.action_dim), KEY)
    _, second = step(after, jnp.zeros(world.spec.action_dim), KEY)
    assert (bool(first.truncated), bool(second.truncated)) == (False, True)
    assert not bool(second.terminated)


def test_a_hosted_episode_is_a_function_of_its_seed():
    environment = make("jax/cartpole", discrete=True)
    assert isinstance(environment, Environment)

    def episode(seed):
        return [environment.reset(seed)] + [
            environment.step(np.array([0.0, 1.0], np.float32)).obs for _ in range(3)
        ]

    first, again, other = episode(1), episode(1), episode(2)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first[0].dtype == np.float32


@pytest.mark.parametrize("task", ["gym/Pendulum-v1", "jax/pendulum"])
def test_time_goes_from_minus_a_half_to_a_half(task):
    environment = add_time(make(task))
    assert environment.spec.obs_dim == 4
    times = [environment.reset(0)[-1]]
    while True:
        step = environment.step(np.zeros(1, np.float32))
        times.append(step.obs[-1])
        if step.terminated or step.truncated:
            break
    np.testing.assert_allclose(times, np.arange(201) / 200 - 0.5, atol=1e-6)
    assert environment.reset(1)[-1] == -0.5
    hosted = isinstance(environment, HostedEnvironment)
    assert isinstance(
        environment.functional if hosted else environment, TimedFunctional | TimedEnvironment
    )


def test_a_one_hot_action_is_its_number():
    ours = GymEnvironment(gymnasium.make("CartPole-v1"), "gym/CartPole-v1", discrete=True)
    theirs = gymnasium.make("CartPole-v1")
    np.testing.assert_array_equal(ours.reset(5), theirs.reset(seed=5)[0])
    for action in (0, 1, 1):
        step = ours.step(np.eye(2, dtype=np.float32)[action])
        np.testing.assert_array_equal(step.obs, theirs.step(action)[0])
    assert ours.spec.action_dim == 2


@pytest.mark.parametrize(
    ("task", "settings", "message"),
    [
        (
            "gym/Pendulum-v1",
            {"discrete": True},
            "Pendulum-v1 has continuous actions.*stream_ac",
        ),
        ("jax/pendulum", {"discrete": True}, "jax/pendulum has continuous actions.*stream_ac"),
        ("dmc/walker-walk", {"discrete": True}, "dmc/walker-walk has continuous actions"),
        ("jax/cartpole", {}, "jax/cartpole has discrete actions.*stream_q"),
        ("gym/CartPole-v1", {}, "gym/CartPole-v1 has discrete.*stream_q"),
        ("jax/cartpol", {"discrete": True}, "Did you mean 'jax/cartpole'"),
        ("jax/pendulum", {"action_repeat": 2}, "takes 1 env step per interaction"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(task, settings, message):
    with pytest.raises(TaskError, match=message):
        make(task, **settings)


def test_without_a_limit_there_is_no_time():
    class Endless(CartPole):
        spec = CartPole.spec.__class__((4,), action_dim=2, episode_length=None)

    with pytest.raises(TaskError, match=r"no time limit.*time = false"):
        TimedFunctional(Endless())
