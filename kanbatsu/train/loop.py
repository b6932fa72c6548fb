"""The loop: decide, step, remember, learn; a generator that everything else listens to."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import numpy as np

from kanbatsu.agents.schedule import TrainConfig
from kanbatsu.envs.vector import Episode, VectorEnvironment
from kanbatsu.replay import Replay
from kanbatsu.types import Agent, Key, Transition


class Position(NamedTuple):
    """Where a run stands; with the seed it determines every random draw that follows."""

    interactions: int = 0
    """Agent decisions so far, over all environments."""
    updates: int = 0
    """Gradient updates so far."""


class Turn(NamedTuple):
    """What one turn of the loop did: a decision in every environment, and the updates after it.

    The state's buffers are given to the next update: use it before asking for the next turn.
    """

    env_steps: int
    position: Position
    state: Any
    obs: np.ndarray
    episodes: tuple[Episode, ...]
    metrics: Mapping[str, jax.Array] | None
    """Of the last update, still on the device; None where nothing was learned."""


@dataclass
class Stopwatch:
    """Seconds spent on each kind of work, and the latest update times."""

    seconds: dict[str, float] = field(default_factory=lambda: {"total": 0.0})
    update_milliseconds: list[float] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)
    share: float = 1.0
    """Of the time that passes, what is booked: 1 / n for one of n runs in one program."""

    def add(self, kind: str, started: float) -> float:
        """Book the time since `started` (of `time.perf_counter`) and return it."""
        return self.book(kind, time.perf_counter() - started)

    def book(self, kind: str, elapsed: float) -> float:
        """Book this run's share of some seconds and return it."""
        elapsed *= self.share
        self.seconds[kind] = self.seconds.get(kind, 0.0) + elapsed
        return elapsed

    def total(self) -> float:
        """Bring the total up to date and return it."""
        now = time.perf_counter()
        self.seconds["total"] += self.share * (now - self.started)
        self.started = now
        return self.seconds["total"]


def interact(
    agent: Agent,
    environments: VectorEnvironment,
    replay: Replay,
    config: TrainConfig,
    *,
    env_steps: int,
    seed: int,
    state: Any,
    obs: np.ndarray,
    position: Position = Position(),  # noqa: B008
    watch: Stopwatch | None = None,
) -> Iterator[Turn]:
    """Train until `env_steps`, one turn at a time.

    Every draw is a function of the seed and the position, so that a run continued from a
    checkpoint draws what the uninterrupted run would have drawn.

    Args:
        agent: what acts and learns.
        environments: stepped together; `obs` is what they showed last, `[n, obs_dim]`.
        replay: where transitions go and batches come from.
        config: batch size, updates per interaction, warm-up.
        env_steps: simulator steps (before action repeat) at which to stop.
        seed: of exploration, batches and update noise.
        state: the agent's state at `position`.
        obs: the observations to act on first.
        position: where to begin.
        watch: books the time spent in the environment and in updates.

    Yields:
        A `Turn` after each decision of all environments.

    Raises:
        FloatingPointError: if the agent's action is not finite.
        EnvironmentFault: if an environment returns something that is not finite, or misshapen.
    """
    watch = watch or Stopwatch()
    act_key, update_key = jax.random.split(jax.random.key(seed))

    @jax.jit
    def act(state: Any, obs: jax.Array, key: Key, count: jax.Array) -> tuple[Any, jax.Array]:
        return agent.act(state, obs, jax.random.fold_in(key, count))

    def learn(state: Any, batches: Transition, key: Key, count: jax.Array) -> tuple[Any, Any]:
        return agent.update(state, batches, jax.random.fold_in(key, count))

    # The old state is given away: its buffers are reused instead of copied.
    update = jax.jit(learn, donate_argnums=0)

    interactions, updates = position
    updates_per_turn = config.updates_per_interaction * len(environments)
    while interactions * environments.action_repeat < env_steps:
        rng = np.random.default_rng([seed, interactions])
        state, chosen = act(state, obs, act_key, np.int32(interactions))
        action = np.asarray(chosen)
        if interactions < config.warmup_interactions:
            action = rng.uniform(-1.0, 1.0, action.shape).astype(np.float32)

        started = time.perf_counter()
        step = environments.step(action)
        watch.add("environment", started)
        replay.add(
            Transition(obs, action, step.reward, step.terminated, step.truncated, step.next_obs)
        )
        obs = step.obs
        interactions += len(environments)

        metrics = None
        if interactions >= config.warmup_interactions:
            started = time.perf_counter()
            batches = replay.sample(rng, updates_per_turn, config.batch_size)
            state, metrics = update(state, batches, update_key, np.int32(updates))
            jax.block_until_ready(metrics)
            elapsed = watch.add("update", started)
            watch.update_milliseconds.append(1e3 * elapsed / updates_per_turn)
            updates += updates_per_turn
        yield Turn(
            env_steps=interactions * environments.action_repeat,
            position=Position(interactions, updates),
            state=state,
            obs=obs,
            episodes=step.episodes,
            metrics=metrics,
        )
