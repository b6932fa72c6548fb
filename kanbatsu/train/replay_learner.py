"""How an agent with a replay meets the loop on the host: remember, and learn from batches."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from kanbatsu.train.programs import Programs
from kanbatsu.train.threads import Threads
from kanbatsu.train.turn import Position, stop_unfit
from kanbatsu.types import Agent, Transition


class ReplayLearner:
    """Members that learn from replays, side by side.

    Args:
        members: Their parts.
        env_steps: At which they stop; not read.
        drawing: Threads in which batches are drawn.
    """

    def __init__(self, members: Sequence[Any], env_steps: int, drawing: Threads) -> None:
        self._members, self._drawing = members, drawing
        self._schedule, self.position = members[0].schedule, members[0].position
        self._programs = Programs(members)
        schedule = self._schedule
        rates = schedule.updates_per_interaction, schedule.late_updates_per_interaction or 0
        self._most = max(rates) * schedule.environments
        """Updates of one call: what is to be made at once beyond that comes in several."""

    @staticmethod
    def start(agent: Agent, obs: np.ndarray, seed: int) -> tuple[Any, np.ndarray]:
        """Initialise an agent; it chooses no action before it is asked."""
        return agent.init(jax.random.key(seed)), np.zeros(0, np.float32)

    def act(self, seen: np.ndarray) -> np.ndarray:
        """Choose an action for `seen`, `[members, n, *obs]`; at random while the replay fills."""
        interactions = self.position.interactions
        self._rngs = [np.random.default_rng([m.seed, interactions]) for m in self._members]
        actions = self._programs.act(seen, interactions)
        if interactions < self._schedule.warmup_interactions:
            for member, rng in enumerate(self._rngs):
                actions[member] = rng.uniform(-1.0, 1.0, actions[member].shape)
        return actions

    def learn(
        self, transition: Transition, obs: np.ndarray, faults: list[Exception | None]
    ) -> Position:
        """Remember `[members, n, ...]`, and learn once the replay holds enough.

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
        if going and interactions >= self._schedule.warmup_interactions:
            due = self._schedule.counts(interactions // n)[1] - updates
            while due > 0:
                more = min(due, self._most)
                self._update(going, faults, more, updates, interactions)
                due, updates = due - more, updates + more
        self.position = Position(interactions, updates)
        return self.position

    def settle(self) -> None:
        """Hand every member its state and the metrics of the latest update."""
        self._programs.settle(self.position)

    def _update(
        self,
        going: Sequence[int],
        faults: list[Exception | None],
        more: int,
        updates: int,
        interactions: int,
    ) -> None:
        """Learn from so many batches; members that diverge are added to the faults."""
        drawn = self._drawing.map(partial(self._draw, faults, more))
        # A member that has stopped learns from another's batches, and nobody looks.
        filled = [batches or drawn[going[0]] for batches in drawn]
        if not self._programs.update(filled, updates):
            at = interactions * self._members[0].environments.action_repeat
            stop_unfit(self._programs.metrics(), faults, at)

    def _draw(self, faults: list[Exception | None], batches: int, index: int) -> Any:
        if faults[index] is not None:
            return None
        size = self._schedule.batch_size
        return self._members[index].past.sample(self._rngs[index], batches, size)
