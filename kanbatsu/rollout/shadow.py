"""Shadow: the candidate sees what the incumbent sees, and nobody does what it says."""

from __future__ import annotations

from typing import Any

import numpy as np

from kanbatsu.rollout.config import CandidateSettings, GuardSettings
from kanbatsu.rollout.events import Sink, event, silent
from kanbatsu.rollout.limits import Finding, Limits
from kanbatsu.rollout.policy.remote import Remote
from kanbatsu.rollout.policy.wire import ANSWERED, RAISED, Reply
from kanbatsu.rollout.residual import Add
from kanbatsu.rollout.tally import Tally


class Shadow:
    """Shows a candidate in its own process what the incumbent sees, and compares what both do.

    Handing an observation over takes a system call and never waits: where the queue is full, the
    observation is dropped and counted. A candidate that hangs is ended, one that ended is started
    again between episodes. Answers are read at the next step, so that they cost no waiting either.

    Args:
        candidate: where it comes from.
        guard: limits that its answers are held against, and the deadline.
        sink: where events go.
        every: answers between two events of kind "shadow"; every failure has one.
        tally: what was counted before, which is counted on.

    Raises:
        OSError: Its process cannot be started.
    """

    def __init__(
        self,
        candidate: CandidateSettings,
        guard: GuardSettings,
        sink: Sink = silent,
        every: int = 1,
        tally: Tally | None = None,
    ) -> None:
        self._settings, self._limits = candidate, Limits(guard)
        self._deadline_us = 1e6 * guard.deadline_s
        self._sink, self._every = sink, every
        self._last: np.ndarray | None = None
        self._taken: dict[int, np.ndarray] = {}
        self._add = Add(candidate.correction, guard.low, guard.high)
        self._known: Finding | None = None
        self.tally = Tally.empty(guard.action_dim) if tally is None else tally
        """Everything counted so far."""
        self.remote = Remote(candidate, candidate.nice)
        """The candidate's process."""

    def show(self, obs: np.ndarray, taken: np.ndarray) -> None:
        """Show the candidate an observation, beside what was done then; read what it has answered.

        Args:
            obs: float32 `[obs_dim]`.
            taken: the incumbent's action, `[action_dim]`.
        """
        self.read()
        waiting = len(self.remote.waiting)
        number = self.remote.send(obs) if waiting < self._settings.queue else None
        if number is None:
            self.tally.dropped += 1
            self._last = None  # what comes next is more than one step away
        else:
            self.tally.shown += 1
            self._taken[number] = taken

    def read(self) -> None:
        """Count the answers that have come back, and failures."""
        while (reply := self.remote.receive()) is not None:
            self._count(reply)
        failure = self.remote.look()
        if failure is not None and failure is not self._known:
            self._known = failure
            self._taken.clear()
            self._fail(*failure)

    def begin_episode(self) -> None:
        """Start a candidate that has failed again, where restarts are left."""
        self.read()
        self._last = None
        if self.remote.renew():
            self._known = None

    def close(self) -> None:
        """End the candidate's process."""
        self.read()
        self.remote.close()

    def _count(self, reply: Reply) -> None:
        taken = self._taken.pop(reply.number, None)
        if taken is None:
            return
        if reply.status != ANSWERED:
            self._fail("raised" if reply.status == RAISED else "shape", reply.text)
            return
        answer: Any = reply.action
        if self._settings.residual and answer.shape == taken.shape:
            answer = self._add(taken, answer)
        action, findings = self._limits.action(answer, self._last)
        if action is None:
            self._last = None
            self._fail(findings[0].trigger.removeprefix("action_"), findings[0].detail)
            return
        self._last = action
        latency_us = 1e6 * reply.seconds
        late = latency_us > self._deadline_us
        violated = [finding.trigger for finding in findings] + ["deadline"] * late
        difference = (answer - taken).tolist()
        self.tally.answered(difference, latency_us, violated, late)
        if self._every and self.tally.answers % self._every == 0:
            self._tell(difference, latency_us, violated, None)

    def _fail(self, name: str, detail: str) -> None:
        self.tally.failures[name] += 1
        self._tell(None, None, [], name, detail)

    def _tell(
        self,
        difference: list[float] | None,
        latency_us: float | None,
        violated: list[str],
        failure: str | None,
        detail: str = "",
    ) -> None:
        self._sink(
            event(
                "shadow",
                difference=difference,
                candidate_latency_us=latency_us,
                would_violate=violated,
                failure=failure,
                detail=detail,
                answers=self.tally.answers,
                dropped=self.tally.dropped,
            )
        )
