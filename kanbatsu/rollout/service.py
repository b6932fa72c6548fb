"""What a control loop calls: one object that knows whose action to take, and when to give up."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from kanbatsu.rollout.canary import Canary
from kanbatsu.rollout.events import Arm, Sink, event, silent
from kanbatsu.rollout.gate import Gate
from kanbatsu.rollout.guard import Guard, Taken
from kanbatsu.rollout.journal import Journal
from kanbatsu.rollout.limits import Finding
from kanbatsu.rollout.policy.ask import Asked, Inline
from kanbatsu.rollout.policy.candidate import start_candidate
from kanbatsu.rollout.policy.load import load_policy
from kanbatsu.rollout.residual import Once
from kanbatsu.rollout.shadow import Shadow
from kanbatsu.rollout.sinks import Background
from kanbatsu.rollout.stages import RULE, Rollout
from kanbatsu.rollout.tally import Tally
from kanbatsu.rollout.watch.lookout import Lookout

LOOK_SECONDS = 1.0
"""Seconds between two looks, within an episode, at whether a person has rolled back."""


class Service:
    """Takes every action of a control loop, by the stage that the rollout's folder says.

    In shadow the incumbent acts and the candidate is shown what it sees; in canary chance gives the
    candidate some episodes; in full service it has all; rolled back it has none. A change of stage
    takes effect when an episode begins, a roll-back within a second. A plant that runs for ever
    has episodes too: shifts, or hours.

    Args:
        folder: of the rollout; `kanbatsu rollout init` makes it.
        incumbent: function of an observation; by default the one that `rollout.toml` names. Where
            it has a method `reset`, that is called when an episode begins.
        sink: where events go, from the one thread of this service: a journal, or a function of an
            event.
        action_every: steps between two events of kind "action" without triggers; 0 for none.
        shadow_every: answers between two events of kind "shadow".

    Raises:
        RolloutError: The folder holds no rollout, its settings are wrong, or the candidate is not
            the one that it began with.

    Example:
        with Service("rollout/", incumbent=base_stock, sink=journal) as service:
            while True:
                service.begin_episode()
                while not over:
                    action = service.act(observation, observed_at=time.monotonic())
                    ...
                service.end_episode(total_reward, violations=0)
    """

    def __init__(
        self,
        folder: str | Path,
        incumbent: Callable[[Any], Any] | None = None,
        sink: Sink | Journal = silent,
        action_every: int = 100,
        shadow_every: int = 1,
    ) -> None:
        self._rollout = Rollout(Path(folder))
        self._rollout.check_candidate()
        settings = self._settings = self._rollout.settings
        policy = load_policy(settings.incumbent) if incumbent is None else incumbent
        self._incumbent = Once(policy)
        self._asked_incumbent = Inline(self._incumbent)
        self._sink = Background(sink)
        self._shadow_every = shadow_every
        self.guard = Guard(settings.guard, self._incumbent, self._sink, action_every)
        """The guard, with its counts of triggers."""
        self._candidate: Asked | None = None
        self._shadow: Shadow | None = None
        self._canary: Canary | None = None
        self.stage = self._rollout.read().stage
        """The stage as it was last looked at."""
        self.arm: Arm = "incumbent"
        """Whose episode this is."""
        self._lookout = Lookout(self._rollout.folder, settings, self._sink)
        self._running = False
        self._unwritten: tuple[str, Gate | None] | None = None
        self._steps = self._faults = self._faulty_in_a_row = self._episodes = 0
        self._prepare()

    def begin_episode(self) -> Arm:
        """Begin an episode: look at the stage, mend what has ended, and draw whose it is.

        This may take a second, where a process starts; it is not for the middle of a motion.
        """
        if self._running:
            raise ValueError("an episode is under way: call end_episode() first")
        self._look()
        self._prepare()
        self._incumbent.reset()
        self.guard.begin_episode()
        if self._shadow is not None:
            self._shadow.begin_episode()
        if self._candidate is not None:
            self._candidate.renew()
        self.arm = "candidate" if self.stage == "full" else "incumbent"
        if self._canary is not None:
            self.arm = self._canary.begin()
        self._lookout.begin_episode(self.stage, self.arm)
        self._running, self._steps, self._faults = True, 0, 0
        return self.arm

    def act(self, observation: Any, observed_at: float | None = None) -> np.ndarray:
        """Return the action to take now; this never raises for anything that a policy does.

        Args:
            observation: numbers `[obs_dim]`.
            observed_at: when it was observed, as `time.monotonic()` has it; None for now.

        Returns:
            float64 `[action_dim]`, within box and slew rate.
        """
        if time.monotonic() > self._looked + LOOK_SECONDS:
            self._look_quickly()
        self._incumbent.new_step(observation)
        acting = self.arm == "candidate" and self._candidate is not None
        if acting and self.stage != "rolled_back":
            assert self._candidate is not None
            taken = self.guard.act(self._candidate, "candidate", observation, observed_at)
            self._follow(taken)
        else:
            taken = self.guard.act(self._asked_incumbent, "incumbent", observation, observed_at)
            if self._shadow is not None and taken.source == "incumbent":
                self._shadow.show(np.asarray(observation, np.float32), taken.action)
        self._lookout.add(observation, taken.action)
        self._steps += 1
        self._faults += taken.faulty
        return taken.action

    def end_episode(self, total: float, violations: int = 0) -> None:
        """End an episode: record it, and roll back where its numbers show harm.

        Args:
            total: its return.
            violations: how many there were of what only the plant knows, such as a limit of
                temperature; steps at which the guard found a fault are added.
        """
        if not self._running:
            raise ValueError("no episode is under way: call begin_episode() first")
        self._running = False
        self._lookout.end_episode()
        violations += self._faults
        number = self._episodes if self._canary is None else self._canary.number
        self._episodes += 1
        record = {"arm": self.arm, "number": number, "return": float(total)}
        counts = {"violations": violations, "steps": self._steps, "stage": self.stage}
        self._sink(event("episode", **record, **counts))
        if self._shadow is not None:
            self._shadow.read()
            self._shadow.tally.store(self._rollout.folder / "shadow.json")
        gate = self._rollout.gate() if self._shadow is not None else None
        if self._canary is not None:
            gate = self._canary.end(float(total), violations, self._steps)
        if gate is not None:
            self._tell_gate(gate)
            if gate.harm:
                self.roll_back(gate.harm, gate)
        if self.stage == "full":
            self._faulty_in_a_row = self._faulty_in_a_row + 1 if self._faults else 0
            if self._faulty_in_a_row >= self._settings.faulty_episodes:
                self.roll_back(f"faults in {self._faulty_in_a_row} episodes in a row")
        self._heed()

    def roll_back(self, reason: str, gate: Gate | None = None) -> None:
        """Give everything back to the incumbent, from the next action on: what a watch calls.

        Args:
            reason: why, as a sentence.
            gate: what a rule decided by.
        """
        if self.stage == "rolled_back":
            return
        change = {"from": self.stage, "to": "rolled_back", "reason": reason, "by": RULE}
        self.stage, self._unwritten = "rolled_back", (reason, gate)
        self._sink(event("stage", **change))
        self._write_roll_back()

    def close(self) -> None:
        """End processes and threads, and record what waits."""
        for part in (self._shadow, self._candidate):
            if part is not None:
                part.close()
        self._shadow = self._candidate = None
        self._sink.close()

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _look(self) -> None:
        """Read the stage; say so where a person has changed it."""
        self._looked, self._seen = time.monotonic(), self._stamp()
        if self.stage == "rolled_back":  # nothing leads back from there, whatever is on the disk
            self._write_roll_back()
            return
        state = self._rollout.read()
        if state.stage != self.stage:
            last = state.changes[-1]
            names = ("from", "to", "reason", "by")
            self._sink(event("stage", **{name: last[name] for name in names}))
            self.stage = state.stage

    def _write_roll_back(self) -> None:
        """Write down that all is rolled back; of a full disk, try again at the next episode."""
        with contextlib.suppress(OSError):
            if self._unwritten is not None:
                self._rollout.roll_back(RULE, *self._unwritten)
                self._unwritten = None

    def _look_quickly(self) -> None:
        """Heed the watch; read the file of the stage only where it was replaced."""
        self._looked = time.monotonic()
        self._heed()
        if self._stamp() == self._seen:
            return
        with contextlib.suppress(OSError, ValueError):  # unreadable: the episode goes on as it is
            if self._rollout.read().stage == "rolled_back":
                self._look()

    def _heed(self) -> None:
        if self._lookout.harm:
            self.roll_back(self._lookout.harm)

    def _stamp(self) -> tuple[int, int]:
        try:
            status = self._rollout.path.stat()
        except OSError:
            return (0, 0)
        return status.st_ino, status.st_mtime_ns

    _looked, _seen = 0.0, (0, 0)

    def _prepare(self) -> None:
        """Start what this stage needs, and end what it does not."""
        if self._shadow is not None and self.stage != "shadow":
            self._shadow.close()
            self._shadow = None
        if self._candidate is not None and self.stage not in ("canary", "full"):
            self._candidate.close()
            self._candidate = None
        if self.stage == "shadow" and self._shadow is None:
            settings, folder = self._settings, self._rollout.folder
            tally = Tally.stored(folder / "shadow.json", settings.guard.action_dim)
            limits = settings.guard
            self._shadow = Shadow(settings.candidate, limits, self._sink, self._shadow_every, tally)
            self._shadow.remote.wait_until_ready()
        if self.stage in ("canary", "full") and self._candidate is None:
            self._candidate = start_candidate(self._settings, self._incumbent)
        if self.stage == "canary" and self._canary is None:
            self._canary = self._rollout.canary()
        if self.stage != "canary":
            self._canary = None

    def _follow(self, taken: Taken) -> None:
        """Let an incumbent that remembers see what the candidate sees."""
        bad = any(trigger.startswith("observation_") for trigger, _ in taken.findings)
        if self._incumbent.asked or bad or not self._settings.incumbent_follows:
            return
        try:
            self._incumbent()
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
            self.guard.note(Finding("incumbent_failed", why), taken.source)

    def _tell_gate(self, gate: Gate) -> None:
        numbers = dict(gate.numbers)
        passed, harm = gate.passed, bool(gate.harm)
        self._sink(
            event(
                "gate", stage=self.stage, numbers=numbers, rule=gate.rule, passed=passed, harm=harm
            )
        )
