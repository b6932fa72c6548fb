"""The guard: what a policy answers reaches the actuators only within its limits and in time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from kanbatsu.rollout.config import GuardSettings
from kanbatsu.rollout.events import TRIGGERS, Sink, Source, event, silent
from kanbatsu.rollout.limits import Finding, Limits
from kanbatsu.rollout.policy.ask import Answer, Asked, Inline

POLICY_FAULTS = frozenset(TRIGGERS) - {
    "observation_shape",
    "observation_not_finite",
    "observation_stale",
    "incumbent_failed",
}
"""Triggers that are the asked policy's own fault: each step with one is a violation."""


class Taken(NamedTuple):
    """Action that a guard let through at one step."""

    action: np.ndarray
    """The action, float64 `[action_dim]`, within box and slew rate."""
    source: Source
    """Source of the action."""
    latency_us: float | None
    """Microseconds that the policy computed; None where it gave no answer."""
    findings: tuple[Finding, ...]
    """Everything that was found at this step, in order."""

    @property
    def faulty(self) -> bool:
        """Whether the policy that was asked did something that it must not."""
        return any(trigger in POLICY_FAULTS for trigger, _ in self.findings)


class Guard:
    """Takes one action per step from a policy, or from what stands in for it.

    The chain of what stands in: the last action taken, held for `hold` steps in a row; then the
    incumbent, where the observation can be used and the incumbent is not the policy that failed;
    then the safe action. Whatever is taken keeps to the box and the slew rate. Every trigger is
    counted in `counts` and told to the sink.

    Args:
        settings: the limits.
        incumbent: function of an observation, as the caller of `act` gives it.
        sink: where events go; it must not raise (see `kanbatsu.rollout.sinks.Background`).
        action_every: steps between two events of kind "action" without triggers; 0 for none.

    Example:
        >>> settings = GuardSettings(2, low=(-1.0,), high=(1.0,), safe_action=(0.0,), hold=0)
        >>> guard = Guard(settings, incumbent=lambda obs: np.array([0.5]))
        >>> broken = Inline(lambda obs: np.array([np.nan]))
        >>> guard.act(broken, "candidate", np.zeros(2))[:2]
        (array([0.5]), 'incumbent')
        >>> guard.counts["action_not_finite"]
        1
    """

    def __init__(
        self,
        settings: GuardSettings,
        incumbent: Callable[[Any], Any],
        sink: Sink = silent,
        action_every: int = 0,
    ) -> None:
        self._settings, self._limits = settings, Limits(settings)
        self._incumbent = Inline(incumbent)
        self._safe = np.array(settings.safe_action)
        self._sink, self._action_every = sink, action_every
        self.counts = dict.fromkeys(TRIGGERS, 0)
        """How often each trigger has fired since the guard was made."""
        self._last: np.ndarray | None = None
        self._held = self._untold = 0

    @property
    def limits(self) -> Limits:
        """The limits that everything is held against."""
        return self._limits

    def begin_episode(self) -> None:
        """Forget the last action: there is nothing yet that could be held or moved away from."""
        self._last, self._held = None, 0

    def act(
        self,
        policy: Asked,
        source: Source,
        observation: Any,
        observed_at: float | None = None,
    ) -> Taken:
        """Take the action of one step.

        Args:
            policy: what is asked; it is given the observation as float32 `[obs_dim]`, and an
                incumbent as the caller has it.
            source: what the policy is.
            observation: numbers `[obs_dim]`.
            observed_at: when it was observed, as `time.monotonic()` has it; None for now.

        Returns:
            The action and what was found; this never raises for anything that a policy does.
        """
        obs, finding = self._limits.observation(observation, observed_at)
        findings = [] if finding is None else [finding]
        action, latency_us = None, None
        if obs is not None:
            given = observation if source == "incumbent" else obs
            answer = policy.ask(given, self._settings.deadline_s)
            latency_us = answer.latency_us
            action = self._checked(answer, findings)
        if action is not None:
            self._held = 0
        else:
            usable = None if obs is None or source == "incumbent" else observation
            action, source = self._stand_in(usable, findings)
        self._last = action
        taken = Taken(action.copy(), source, latency_us, tuple(findings))
        self._tell(taken)
        return taken

    def _checked(self, answer: Answer, findings: list[Finding]) -> np.ndarray | None:
        """Return the action of an answer, where it may be taken."""
        if answer.finding is not None:
            findings.append(answer.finding)
            if answer.action is None:
                return None
        action, wrong = self._limits.action(answer.action, self._last)
        findings.extend(wrong)
        return None if wrong and self._settings.on_limit == "replace" else action

    def _stand_in(self, observation: Any, findings: list[Finding]) -> tuple[np.ndarray, Source]:
        """Return the first of the chain that can be had, and where it comes from."""
        if self._last is not None and self._held < self._settings.hold:
            self._held += 1
            return self._last, "fallback"
        if observation is not None:
            answer = self._incumbent.ask(observation, self._settings.deadline_s)
            action, wrong = self._limits.action(answer.action, self._last)
            if action is not None:
                findings.extend(wrong)
                return action, "incumbent"
            why = answer.finding or wrong[0]
            findings.append(Finding("incumbent_failed", f"{why.trigger}: {why.detail}"))
        # The safe action lies in the box, so only the slew rate can move it.
        safe, wrong = self._limits.action(self._safe, self._last)
        findings.extend(wrong)
        assert safe is not None
        return safe, "fallback"

    def note(self, finding: Finding, source: Source) -> None:
        """Count a finding and tell it: one of `act`, or one made beside it.

        Args:
            finding: what was found.
            source: where the action came from that was taken then.
        """
        trigger, detail = finding
        self.counts[trigger] += 1
        count = self.counts[trigger]
        self._sink(event("guard", trigger=trigger, detail=detail, source=source, count=count))

    def _tell(self, taken: Taken) -> None:
        self._untold += 1
        for finding in taken.findings:
            self.note(finding, taken.source)
        due = self._action_every and self._untold >= self._action_every
        if due or taken.findings:
            self._sink(
                event(
                    "action",
                    source=taken.source,
                    latency_us=taken.latency_us,
                    guard=taken.findings[0].trigger if taken.findings else None,
                    steps=self._untold,
                )
            )
            self._untold = 0
