"""How an agent that learns from rollouts meets the loops: act for a while, then learn from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array

from kanbatsu.agents.schedule import RolloutTrainConfig
from kanbatsu.agents.streaming import Outcome
from kanbatsu.train.programs import Programs
from kanbatsu.train.ring import Ring
from kanbatsu.train.threads import Threads
from kanbatsu.train.turn import Position, stop_unfit
from kanbatsu.types import Agent, Key, Transition


class RolloutLearner:
    """Members that learn from rollouts on the host, side by side.

    The rollout that is under way is the end of a member's past transitions, and so is saved with
    them.

    Args:
        members: Their parts.
        env_steps: At which they stop; not read.
        drawing: Threads; not needed.
    """

    def __init__(self, members: Sequence[Any], env_steps: int, drawing: Threads) -> None:
        self._members, self.position = members, members[0].position
        self._schedule: RolloutTrainConfig = members[0].schedule
        self._programs = Programs(members)

    @staticmethod
    def start(agent: Agent, obs: np.ndarray, seed: int) -> tuple[Any, np.ndarray]:
        """Initialise an agent; it chooses no action before it is asked."""
        return agent.init(jax.random.key(seed)), np.zeros(0, np.float32)

    def act(self, seen: np.ndarray) -> np.ndarray:
        """Choose an action for `seen`, `[members, n, *obs]`."""
        return self._programs.act(seen, self.position.interactions)

    def learn(
        self, transition: Transition, obs: np.ndarray, faults: list[Exception | None]
    ) -> Position:
        """Remember `[members, n, ...]`, and learn once a rollout is whole.

        Args:
            transition: what the last actions led to.
            obs: what is acted on next; not read.
            faults: of members that have stopped; those that diverge are added.
        """
        going = [index for index, fault in enumerate(faults) if fault is None]
        for index in going:
            self._members[index].past.add(Transition(*(x[index] for x in transition)))
        n = transition.reward.shape[1]
        interactions, updates = self.position.interactions + n, self.position.updates
        if going and interactions % self._schedule.batch_size == 0:
            # A member that has stopped learns from another's rollout, and nobody looks.
            whose = [index if index in going else going[0] for index in range(len(faults))]
            rollouts = {index: self._rollout(index) for index in going}
            if not self._programs.update([rollouts[index] for index in whose], updates):
                at = interactions * self._members[0].environments.action_repeat
                stop_unfit(self._programs.metrics(), faults, at)
            updates += 1
        self.position = Position(interactions, updates)
        return self.position

    def settle(self) -> None:
        """Hand every member its state and the metrics of the latest update."""
        self._programs.settle(self.position)
        for member in self._members:
            metrics = member.agent.metrics(member.state)
            member.metrics = metrics if self.position.updates else None

    def _rollout(self, index: int) -> Transition:
        """Return a member's latest transitions, `[rollout, n, ...]`."""
        latest = self._members[index].past.latest(self._schedule.batch_size)
        shape = self._schedule.rollout, self._schedule.environments
        return Transition(*(x.reshape(*shape, *x.shape[1:]) for x in latest))


class RolloutState(NamedTuple):
    """All that a `Rollouts` changes."""

    trained: Any
    """State of the agent."""
    ring: Ring
    """The latest rollout, to probe with."""


@dataclass(frozen=True)
class Rollouts:
    """An agent that learns from rollouts as one that is told outcome by outcome, in `n` simulators.

    `step` only acts; the scan calls `learn` when a rollout is whole. A condition inside `step`
    would cost an update with every interaction, once runs are laid side by side.

    Args:
        agent: What learns.
        schedule: How long a rollout is, and how many simulators.
    """

    agent: Any
    schedule: RolloutTrainConfig

    def init(self, key: Key, masks: Any = None) -> RolloutState:
        """Initialise the agent."""
        ring = Ring.empty(self.schedule.batch_size, self.agent.spec)
        return RolloutState(self.agent.init(key, masks), ring)

    def noise(self, key: Key, interactions: int) -> Key:
        """Return a key for each of many interactions."""
        return jax.random.split(key, interactions)

    def begin(self, state: RolloutState, obs: Array, noise: Key) -> tuple[RolloutState, Array]:
        """Choose actions."""
        trained, action = self.agent.act(state.trained, obs, noise)
        return state._replace(trained=trained), action

    def step(self, state: RolloutState, outcome: Outcome, noise: Key) -> tuple[RolloutState, Array]:
        """Choose the next actions."""
        return self.begin(state, outcome.obs, noise)

    def learn(self, state: RolloutState, rollout: Transition, key: Key) -> RolloutState:
        """Learn from a whole rollout, `[rollout, n, ...]`."""
        trained, _ = self.agent.update(state.trained, rollout, key)
        flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), rollout)
        return RolloutState(trained, Ring(flat, state.ring.added + len(flat.reward)))

    def metrics(self, state: RolloutState) -> Mapping[str, Array]:
        """Return the metrics of the latest update."""
        metrics: Mapping[str, Array] = self.agent.metrics(state.trained)
        return metrics
