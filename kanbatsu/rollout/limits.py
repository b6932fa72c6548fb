"""What may pass: observations and actions held against their limits, one of each per step."""

from __future__ import annotations

import math
import time
from typing import Any, NamedTuple

import numpy as np

from kanbatsu.rollout.config import GuardSettings


class Finding(NamedTuple):
    """Something that a limit caught."""

    trigger: str
    """One of `kanbatsu.rollout.events.TRIGGERS`."""
    detail: str
    """A sentence for people."""


class Limits:
    """Checks of a guard; none of them keeps anything between calls.

    Args:
        settings: the limits.

    Example:
        >>> limits = Limits(GuardSettings(2, low=(-1.0,), high=(1.0,), safe_action=(0.0,)))
        >>> limits.observation(np.array([0.0, np.nan]), None)[1].trigger
        'observation_not_finite'
        >>> limits.action(np.array([3.0]), last=None)
        (array([1.]), [Finding(trigger='action_box', detail='entry 0 is 3, above 1')])
    """

    def __init__(self, settings: GuardSettings) -> None:
        self._obs_shape, self._max_age_s = (settings.obs_dim,), settings.max_age_s
        self._low, self._high = np.array(settings.low), np.array(settings.high)
        self._action_shape = self._low.shape
        self._slew = np.array(settings.slew) if settings.slew else None
        # A policy that computes in float32 meets a bound only as closely as float32 can.
        largest = np.maximum(np.abs(self._low), np.abs(self._high)).astype(np.float32)
        self._rounding = np.spacing(largest).astype(np.float64)

    def observation(
        self, observation: Any, observed_at: float | None
    ) -> tuple[np.ndarray | None, Finding | None]:
        """Return an observation as float32, or what is wrong with it.

        Args:
            observation: numbers `[obs_dim]`.
            observed_at: when it was observed, as `time.monotonic()` has it; None for now.
        """
        try:
            given = np.asarray(observation)
        except (TypeError, ValueError):  # lists of unequal lengths
            given = np.empty(0, object)
        if given.shape != self._obs_shape or given.dtype.kind not in "fiub":
            shape, wanted = list(given.shape), list(self._obs_shape)
            return None, Finding(
                "observation_shape", f"{shape} of {given.dtype}, not {wanted} of numbers"
            )
        with np.errstate(over="ignore", invalid="ignore"):
            obs = np.array(given, np.float32)
            # One product tells nearly always that all is well; squares may overflow: look again.
            sure = math.isfinite(np.dot(obs, obs))
        if not sure and not np.isfinite(obs).all():
            at = np.flatnonzero(~np.isfinite(obs))
            return None, Finding("observation_not_finite", f"entries {at[:8].tolist()}")
        if self._max_age_s and observed_at is not None:
            age = time.monotonic() - observed_at
            if age > self._max_age_s:
                return None, Finding(
                    "observation_stale",
                    f"{1e3 * age:.3g} ms old, at most {1e3 * self._max_age_s:g}",
                )
        return obs, None

    def action(
        self, action: Any, last: np.ndarray | None
    ) -> tuple[np.ndarray | None, list[Finding]]:
        """Return an action inside its limits, and what had to be changed or is wrong with it.

        Args:
            action: what a policy answered.
            last: the action taken one step ago; None at the beginning.

        Returns:
            The action, float64 `[action_dim]`, clipped to the box and the slew rate; None where it
            is no action at all.
        """
        try:
            given = np.asarray(action, np.float64)
        except (TypeError, ValueError):
            return None, [Finding("action_shape", f"{type(action).__name__}, not numbers")]
        if given.shape != self._action_shape:
            shape, wanted = list(given.shape), list(self._action_shape)
            return None, [Finding("action_shape", f"{shape}, not {wanted}")]
        clipped = np.minimum(np.maximum(given, self._low), self._high)
        slewed = clipped
        if self._slew is not None and last is not None:
            slewed = np.minimum(np.maximum(clipped, last - self._slew), last + self._slew)
        if (np.abs(slewed - given) <= self._rounding).all():  # false of a NaN
            return slewed, []
        if not np.isfinite(given).all():
            at = np.flatnonzero(~np.isfinite(given))
            return None, [Finding("action_not_finite", f"entries {at[:8].tolist()}")]
        return slewed, [*self._box(given, clipped), *self._moved(clipped, slewed, last)]

    def _box(self, given: np.ndarray, clipped: np.ndarray) -> list[Finding]:
        outside = np.flatnonzero(np.abs(clipped - given) > self._rounding)
        if not outside.size:
            return []
        at = outside[0]
        side = "above" if given[at] > clipped[at] else "below"
        return [Finding("action_box", f"entry {at} is {given[at]:.6g}, {side} {clipped[at]:.6g}")]

    def _moved(
        self, clipped: np.ndarray, slewed: np.ndarray, last: np.ndarray | None
    ) -> list[Finding]:
        fast = np.flatnonzero(np.abs(slewed - clipped) > self._rounding)
        if last is None or self._slew is None or not fast.size:
            return []
        at = fast[0]
        moved = f"entry {at} moved by {clipped[at] - last[at]:.6g}, at most {self._slew[at]:.6g}"
        return [Finding("action_slew", moved)]
