"""Compiled evaluation plays the episodes that a plain loop plays, and no more of them; an episode
without an end is told."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kanbatsu.envs.classic import CartPole, Pendulum
from kanbatsu.envs.gym import GymEnvironment
from kanbatsu.envs.timed import TimedFunctional
from kanbatsu.envs.vector import EnvironmentFault
from kanbatsu.train import evaluate as module
from kanbatsu.train.evaluate import evaluate, evaluate_compiled

POLE = TimedFunctional(CartPole())


def follow(weight, obs):
    """Push to the side that a weighted sum of the observation says."""
    return jax.nn.one_hot((obs @ weight > 0).astype(jnp.int32), 2)


def test_every_episode_is_that_of_a_plain_loop():
    weight = jnp.array([0.0, 0.3, 1.0, 0.2, 0.1])
    result = evaluate_compiled(follow, weight, POLE, seed=7, episodes=4)
    reset_key, _ = jax.random.split(jax.random.key(7))
    turn = jax.jit(
        lambda world, obs: POLE.step(world, follow(weight, obs[None])[0], jax.random.key(0))
    )
    lengths = []
    for index in range(4):
        world, obs = jax.jit(POLE.reset)(jax.random.fold_in(reset_key, index))
        for interactions in range(1, 501):
            world, after = turn(world, obs)
            obs = after.obs
            if after.terminated | after.truncated:
                lengths.append(interactions)
                break
    assert result.lengths == tuple(lengths)
    assert result.returns == tuple(map(float, lengths))  # 1 per interaction
    assert len(set(lengths)) > 1
    assert result.success_rate is None
    # An episode does not depend on how many there are.
    alone = evaluate_compiled(follow, weight, POLE, seed=7, episodes=1)
    assert alone.lengths == result.lengths[:1]


def test_what_is_not_finite_is_a_fault():
    broken = lambda state, obs: jnp.where(obs[:, :1] > state, jnp.nan, 0.0)  # noqa: E731
    assert evaluate_compiled(broken, 2.0, Pendulum(), seed=0, episodes=1).lengths == (200,)
    with pytest.raises(EnvironmentFault, match=r"not finite in evaluation episode 0 \(seed 0\)"):
        evaluate_compiled(broken, -2.0, Pendulum(), seed=0, episodes=1)


def test_an_episode_without_an_end_is_told(monkeypatch):
    def play(limit):
        pendulum = gymnasium.make("Pendulum-v1").unwrapped  # which never ends by itself
        if limit:
            pendulum = gymnasium.wrappers.TimeLimit(pendulum, limit)
        rest = lambda state, obs: np.zeros((len(obs), 1), np.float32)  # noqa: E731
        return evaluate(rest, None, GymEnvironment(pendulum, "own"), seed=3, episodes=2)

    monkeypatch.setattr(module, "MOST_INTERACTIONS", 50)
    with pytest.raises(
        EnvironmentFault, match=r"episode 0 \(seed 3\) did not end within 50 .*Time"
    ):
        play(limit=None)
    assert play(limit=50).lengths == (50, 50)
    assert play(limit=60).lengths == (60, 60)
