"""Agents with a replay and functional environments in one program: `train(key, masks)`.

Simulators, replay and learning stay on the device, so that `jax.vmap` over keys and masks trains a
whole population there without waiting for the host.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from kanbatsu.agents.schedule import TrainConfig
from kanbatsu.agents.streaming import choose
from kanbatsu.envs.functional import FunctionalEnvironment
from kanbatsu.train.stream_scan import Curve
from kanbatsu.types import Agent, Key, Spec, Transition


class Ring(NamedTuple):
    """The last transitions, on the device; `kanbatsu.replay.Replay` is the one on the host.

    Example:
        >>> ring = Ring.empty(2, Spec(obs_dim=1, action_dim=1, episode_length=None))
        >>> one, no = jnp.ones((1, 1)), jnp.zeros(1, bool)
        >>> for reward in (1.0, 2.0, 3.0):
        ...     ring = ring.add(Transition(one, one, jnp.full(1, reward), no, no, one))
        >>> ring.storage.reward
        Array([3., 2.], dtype=float32)
    """

    storage: Transition
    """Arrays `[capacity, ...]`."""
    added: Int[Array, ""]

    @classmethod
    def empty(cls, capacity: int, spec: Spec) -> Ring:
        """Make room for `capacity` transitions."""
        obs, no = jnp.zeros((capacity, spec.obs_dim)), jnp.zeros(capacity, bool)
        action = jnp.zeros((capacity, spec.action_dim))
        return cls(Transition(obs, action, jnp.zeros(capacity), no, no, obs), jnp.int32(0))

    def add(self, transition: Transition) -> Ring:
        """Write `n` transitions, `[n, ...]`, over the oldest ones."""
        n, capacity = len(transition.reward), len(self.storage.reward)
        rows = (self.added + jnp.arange(n, dtype=jnp.int32)) % capacity
        storage = jax.tree.map(lambda old, new: old.at[rows].set(new), self.storage, transition)
        return Ring(storage, self.added + n)

    def sample(self, key: Key, batches: int, batch_size: int) -> Transition:
        """Draw uniformly and with replacement: arrays `[batches, batch_size, ...]`."""
        size = jnp.minimum(self.added, len(self.storage.reward))
        rows = jax.random.randint(key, (batches, batch_size), 0, size)
        return jax.tree.map(lambda stored: stored[rows], self.storage)


class Carry(NamedTuple):
    """All that goes from one turn to the next."""

    state: Any
    """The agent's."""
    ring: Ring
    worlds: Any
    """The simulators', `n` of them side by side."""
    obs: Float[Array, "n obs_dim"]
    returns: Float[Array, " n"]
    """Of the episodes so far."""
    metrics: Any
    """Of the latest update; NaN before the first."""


def make_train(
    agent: Agent,
    environment: FunctionalEnvironment,
    config: TrainConfig,
    decisions: int,
    points: int = 100,
) -> Callable[..., tuple[Any, Curve]]:
    """Make a whole run a pure function.

    It does what `kanbatsu.train.loop.interact` does; its draws are its own.

    Args:
        agent: what learns.
        environment: what it learns in.
        config: batch size, updates per interaction, warm-up, capacity (at most as many transitions
            as there will be), and how many simulators; the rest is not read.
        decisions: how long, over all simulators; a multiple of `points` times the simulators.
        points: moments of the curve, evenly apart.

    Returns:
        `train(key, masks=None)` to the agent's last state and its `Curve`, whose metrics are those
        of the latest update. Masks are drawn on the host, so `jit` and `vmap` want them as an
        argument: `agent.masks(key)`, stacked.

    Raises:
        ValueError: the decisions are not such a multiple, the replay cannot hold one turn, or the
            environment wants one of a few actions, which no agent with a replay chooses.

    Example:
        >>> from kanbatsu.agents.ddpg import DDPG, DDPGConfig
        >>> from kanbatsu.envs.classic import Pendulum
        >>> from kanbatsu.nn.config import CriticConfig, NetworkConfig
        >>> small = DDPGConfig(NetworkConfig(width=8, blocks=1), CriticConfig(width=8, blocks=1))
        >>> config = TrainConfig(batch_size=4, warmup_interactions=10)
        >>> agent = DDPG(Pendulum.spec, small)
        >>> train = make_train(agent, Pendulum(), config, decisions=20, points=2)
        >>> _, curve = train(jax.random.key(0))
        >>> curve.decisions
        Array([10, 20], dtype=int32)
    """
    n, capacity = config.environments, min(config.replay_capacity, decisions)
    if decisions % (points * n):
        raise ValueError(
            f"{points} points of {n} simulators each do not divide {decisions} decisions"
        )
    if n > capacity:
        raise ValueError(f"a replay of {capacity} cannot hold one decision of {n} simulators")
    if environment.discrete:
        raise ValueError("agents with a replay have continuous actions: use Stream Q here")
    updates = config.updates_per_interaction * n

    def learn(state: Any, ring: Ring, key: Key) -> tuple[Any, Any]:
        sample_key, update_key = jax.random.split(key)
        batches = ring.sample(sample_key, updates, config.batch_size)
        state, metrics = agent.update(state, batches, update_key)
        return state, dict(metrics)

    def turn(carry: Carry, now: tuple[Array, Key]) -> tuple[Carry, tuple[Array, Array]]:
        count, key = now
        act_key, uniform_key, step_key, reset_key, learn_key = jax.random.split(key, 5)
        state, action = agent.act(carry.state, carry.obs, act_key)
        random = jax.random.uniform(uniform_key, action.shape, minval=-1.0, maxval=1.0)
        action = jnp.where(count < config.warmup_interactions, random, action)
        worlds, step = jax.vmap(environment.step)(
            carry.worlds, action, jax.random.split(step_key, n)
        )
        ended, returns = step.terminated | step.truncated, carry.returns + step.reward
        worlds, obs = jax.lax.cond(
            ended.any(),
            lambda: jax.vmap(choose)(
                ended,
                jax.vmap(environment.reset)(jax.random.split(reset_key, n)),
                (worlds, step.obs),
            ),
            lambda: (worlds, step.obs),
        )
        ring = carry.ring.add(
            Transition(carry.obs, action, step.reward, step.terminated, step.truncated, step.obs)
        )
        state, metrics = jax.lax.cond(
            count + n >= config.warmup_interactions,
            lambda: learn(state, ring, learn_key),
            lambda: (state, carry.metrics),
        )
        after = Carry(state, ring, worlds, obs, jnp.where(ended, 0.0, returns), metrics)
        return after, (ended.sum(dtype=jnp.int32), jnp.where(ended, returns, 0.0).sum())

    def segment(carry: Carry, now: tuple[Array, Key]) -> tuple[Carry, Any]:
        carry, (ended, total) = jax.lax.scan(turn, carry, now)
        episodes = ended.sum(dtype=jnp.int32)
        return carry, (episodes, total.sum() / episodes.astype(jnp.float32), carry.metrics)

    def train(key: Key, masks: Any = None) -> tuple[Any, Curve]:
        init_key, world_key, run_key = jax.random.split(key, 3)
        state, ring = agent.init(init_key, masks), Ring.empty(capacity, agent.spec)
        worlds, obs = jax.vmap(environment.reset)(jax.random.split(world_key, n))
        _, metrics = jax.eval_shape(learn, state, ring, run_key)
        unknown = jax.tree.map(lambda x: jnp.full(x.shape, jnp.nan, x.dtype), metrics)
        turns = decisions // n
        counts = n * jnp.arange(turns, dtype=jnp.int32)
        now = (counts, jax.random.split(run_key, turns))
        carry, (episodes, mean_return, metrics) = jax.lax.scan(
            segment,
            Carry(state, ring, worlds, obs, jnp.zeros(n), unknown),
            jax.tree.map(lambda x: x.reshape(points, turns // points), now),
        )
        done = decisions // points * jnp.arange(1, points + 1, dtype=jnp.int32)
        return carry.state, Curve(done, episodes, mean_return, metrics)

    return train
