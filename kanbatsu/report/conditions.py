"""Conditions of a rule beside the effect over the control: failures, and the rule in use today."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from kanbatsu.report import effect as effects
from kanbatsu.report import power
from kanbatsu.report.failures import Failures, clean_seeds, rate_bounds


def incumbent_obstacles(
    x: Sequence[np.ndarray],
    z: Sequence[np.ndarray],
    between: Callable[[Sequence[np.ndarray], Sequence[np.ndarray]], effects.Effect],
) -> list[dict[str, Any]]:
    """Say whether the rule in use today is beaten: by an effect whose whole interval is above 0.

    Args:
        x: Final returns of the arm, one array of seeds per task.
        z: Those of the rule in use today, on the same tasks.
        between: Effect of one over the other.
    """
    if min(task.size for task in z) == 0:
        return [{"kind": "incumbent_not_beaten", "value": None, "low": None, "high": None}]
    value, low, high = (float(each) for each in between(x, z))
    if low > 0:
        return []
    kind = "loses_to_incumbent" if high < 0 else "incumbent_not_beaten"
    known = {"value": value, "low": low, "high": high}
    return [{"kind": kind, **{name: x if np.isfinite(x) else None for name, x in known.items()}}]


def seeds_to_beat(
    x: Sequence[np.ndarray], z: Sequence[np.ndarray], measure: str, level: float, at_least: int
) -> int | None:
    """Return the fewest seeds that tell an arm from the rule in use today, if any number does."""
    if min(task.size for task in z) == 0:
        return at_least
    return power.seeds_needed(
        x, z, lambda each: (each.low > 0) | (each.high < 0), measure, level, at_least
    )


def failure_obstacles(collapsed: Failures | None, rule: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Say whether the runs exclude a failure rate above the one that the rule allows."""
    allowed = rule.get("max_failure_rate")
    if allowed is None or collapsed is None or collapsed.high <= allowed:
        return []
    kind = "fails_too_often" if collapsed.low > allowed else "failure_rate"
    bounds = {"low": collapsed.low, "high": collapsed.high, "threshold": allowed}
    return [{"kind": kind, "failed": collapsed.failed, "runs": collapsed.runs, **bounds}]


def seeds_for_failures(collapsed: Failures | None, rule: Mapping[str, Any]) -> int | None:
    """Return the seeds that exclude the rule's failure rate if no further one collapses."""
    allowed, confidence = rule.get("max_failure_rate"), rule["confidence"]
    if allowed is None or collapsed is None:
        return 0
    least = clean_seeds(allowed, confidence)
    return next(
        (
            seeds
            for seeds in range(max(least, collapsed.runs), power.MOST_SEEDS + 1)
            if rate_bounds(collapsed.failed, seeds, confidence)[1] <= allowed
        ),
        None,
    )
