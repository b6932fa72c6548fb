"""A replay on the device, and how an agent with one learns in the scan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num

from kanbatsu.agents.schedule import TrainConfig
from kanbatsu.agents.streaming import Outcome
from kanbatsu.types import Agent, Key, Spec, Transition


class Ring(NamedTuple):
    """The last transitions, on the device; `kanbatsu.replay.Replay` is the one on the host.

    Example:
        >>> ring = Ring.empty(2, Spec((1,), action_dim=1))
        >>> one, no = jnp.ones((1, 1)), jnp.zeros(1, bool)
        >>> for reward in (1.0, 2.0, 3.0):
        ...     ring = ring.add(Transition(one, one, jnp.full(1, reward), no, no, one))
        >>> ring.storage.reward
        Array([3., 2.], dtype=float32)
    """

    storage: Transition
    """Arrays `[capacity, ...]`."""
    added: Int[Array, ""]
    """Transitions that were ever added."""

    @classmethod
    def empty(cls, capacity: int, spec: Spec) -> Ring:
        """Make room for `capacity` transitions."""
        obs = jnp.zeros((capacity, *spec.obs_shape), spec.obs_dtype)
        action, no = jnp.zeros((capacity, spec.action_dim)), jnp.zeros(capacity, bool)
        return cls(Transition(obs, action, jnp.zeros(capacity), no, no, obs), jnp.int32(0))

    def add(self, transition: Transition) -> Ring:
        """Write `n` transitions, `[n, ...]`, over the oldest ones."""
        n, capacity = len(transition.reward), len(self.storage.reward)
        rows = (self.added + jnp.arange(n, dtype=jnp.int32)) % capacity
        storage = jax.tree.map(lambda old, new: old.at[rows].set(new), self.storage, transition)
        return Ring(storage, self.added + n)

    def draw(self, key: Key, batches: int, batch_size: int) -> Transition:
        """Draw uniformly and with replacement: arrays `[batches, batch_size, ...]`."""
        rows = jax.random.randint(key, (batches, batch_size), 0, self.size)
        return jax.tree.map(lambda stored: stored[rows], self.storage)

    def sample(self, rng: np.random.Generator, batches: int, batch_size: int) -> Transition:
        """Draw as `draw` does, from the host, for probes."""
        rows = rng.integers(int(self.size), size=(batches, batch_size))
        return jax.tree.map(lambda stored: stored[rows], self.storage)

    @property
    def size(self) -> Int[Array, ""]:
        """Transitions that are there to be drawn."""
        return jnp.minimum(self.added, len(self.storage.reward))


class RingState(NamedTuple):
    """All that a `RingLearner` changes."""

    trained: Any
    """State of the agent."""
    ring: Ring
    obs: Num[Array, "n *obs"]
    """Observation that was acted on last."""
    action: Float[Array, "n action_dim"]
    """Action that was chosen then."""
    interactions: Int[Array, ""]
    metrics: Any
    """Metrics of the latest update; NaN before the first."""


@dataclass(frozen=True)
class RingLearner:
    """An agent with a replay as one that is told outcome by outcome, in `n` simulators at a time.

    It does what `kanbatsu.train.replay_learner` does on the host; its draws are its own.

    Args:
        agent: What learns.
        schedule: Batch size, updates per interaction, warm-up, and how many simulators.
        capacity: Transitions that are kept.

    Raises:
        ValueError: The replay cannot hold one interaction of all simulators.
    """

    agent: Agent
    schedule: TrainConfig
    capacity: int

    def __post_init__(self) -> None:
        n = self.schedule.environments
        if n > self.capacity:
            raise ValueError(
                f"a replay of {self.capacity} cannot hold one interaction of {n} simulators"
            )

    def init(self, key: Key, masks: Any = None) -> RingState:
        """Initialise the agent, and an empty replay."""
        n, spec, trained = self.schedule.environments, self.agent.spec, self.agent.init(key, masks)
        ring = Ring.empty(self.capacity, spec)
        _, metrics = jax.eval_shape(self._update, trained, ring, key)
        return RingState(
            trained,
            ring,
            jnp.zeros((n, *spec.obs_shape), spec.obs_dtype),
            jnp.zeros((n, spec.action_dim)),
            jnp.int32(0),
            jax.tree.map(lambda x: jnp.full(x.shape, jnp.nan, x.dtype), metrics),
        )

    def noise(self, key: Key, interactions: int) -> Key:
        """Return a key for each of many interactions."""
        return jax.random.split(key, interactions)

    def begin(self, state: RingState, obs: Array, noise: Key) -> tuple[RingState, Array]:
        """Look at the first observations of all and choose actions."""
        act_key, uniform_key = jax.random.split(noise)
        trained, action = self.agent.act(state.trained, obs, act_key)
        random = jax.random.uniform(uniform_key, action.shape, minval=-1.0, maxval=1.0)
        warm = state.interactions < self.schedule.warmup_interactions
        action = jnp.where(warm, random, action)
        return state._replace(trained=trained, obs=obs, action=action), action

    def step(self, state: RingState, outcome: Outcome, noise: Key) -> tuple[RingState, Array]:
        """Remember what the last actions led to, learn from batches, and choose the next ones."""
        act_key, learn_key = jax.random.split(noise)
        reward, terminated, truncated, next_obs, obs = outcome
        ring = state.ring.add(
            Transition(state.obs, state.action, reward, terminated, truncated, next_obs)
        )
        interactions = state.interactions + len(reward)
        trained, metrics = jax.lax.cond(
            interactions >= self.schedule.warmup_interactions,
            lambda: self._update(state.trained, ring, learn_key),
            lambda: (state.trained, state.metrics),
        )
        state = state._replace(
            trained=trained, ring=ring, interactions=interactions, metrics=metrics
        )
        return self.begin(state, obs, act_key)

    def metrics(self, state: RingState) -> Mapping[str, Array]:
        """Return the metrics of the latest update."""
        return state.metrics

    def _update(self, trained: Any, ring: Ring, key: Key) -> tuple[Any, dict[str, Array]]:
        sample_key, update_key = jax.random.split(key)
        updates = self.schedule.updates_per_interaction * self.schedule.environments
        batches = ring.draw(sample_key, updates, self.schedule.batch_size)
        trained, metrics = self.agent.update(trained, batches, update_key)
        return trained, dict(metrics)
