"""Conditions of a rule beside the effect over the control: failures, and the rule in use today."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from kanbatsu.report import effect as effects
from kanbatsu.report import power
from kanbatsu.report.failures import Failures, clean_seeds, rate_bounds
from kanbatsu.report.results import ArmResults


class Pairs(NamedTuple):
    """Runs of an arm beside the rule in use today, on the same episodes, one pair for each seed."""

    differences: list[np.ndarray]
    """Return of the arm less that of the rule, by task; of a relative measure, as a share of the
    rule's mean."""
    nothing: list[np.ndarray]
    """Zeros, which the differences are held against."""
    measure: str
    """Measure of the differences."""

    def effect(self, confidence: float) -> effects.Effect:
        """Return the effect over the rule; NaN where there is no pair on some task."""
        if min(task.size for task in self.differences) == 0:
            unknown = np.float64(np.nan)
            return effects.Effect(unknown, unknown, unknown)
        return effects.effect(self.differences, self.nothing, self.measure, confidence)


def pairs(arm: ArmResults, incumbent: ArmResults, tasks: Iterable[str], measure: str) -> Pairs:
    """Pair the runs of an arm with those of the rule in use today, by task and seed.

    Both play the same episodes, so that what makes an episode dear falls out of the differences;
    the interval of Student's t is then that of paired samples.

    Args:
        arm: The arm.
        incumbent: The rule in use today.
        tasks: Tasks of the study.
        measure: One of `kanbatsu.report.effect.MEASURES`.
    """
    differences = []
    for task in tasks:
        theirs = {run.seed: run.final_return for run in incumbent.on(task)}
        both = [
            (run.final_return, theirs[run.seed])
            for run in arm.on(task)
            if run.final_return is not None and theirs.get(run.seed) is not None
        ]
        x, z = np.array(both, dtype=float).reshape(-1, 2).T
        apart = x - z
        if apart.size and np.abs(apart).max() <= effects.ROUNDING * np.abs(x).max():
            apart = np.zeros_like(apart)
        if measure.endswith("relative") and apart.size:
            level = abs(float(effects.centre(z, measure).value))
            apart = apart / level if level > 0 else np.full_like(apart, np.nan)
        differences.append(apart)
    plain = measure.replace("relative", "difference")
    return Pairs(differences, [np.zeros_like(each) for each in differences], plain)


def incumbent_obstacles(beside: Pairs, confidence: float) -> list[dict[str, Any]]:
    """Say whether the rule in use today is beaten: by an effect whose whole interval is above 0.

    Args:
        beside: Runs of the arm beside those of the rule.
        confidence: Confidence of the interval.
    """
    value, low, high = (float(each) for each in beside.effect(confidence))
    if low > 0:
        return []
    kind = "loses_to_incumbent" if high < 0 else "incumbent_not_beaten"
    known = {"value": value, "low": low, "high": high}
    return [{"kind": kind, **{name: x if np.isfinite(x) else None for name, x in known.items()}}]


def seeds_to_beat(beside: Pairs, confidence: float, at_least: int) -> int | None:
    """Return the fewest seeds that tell an arm from the rule in use today, if any number does."""
    if min(task.size for task in beside.differences) == 0:
        return at_least
    return power.seeds_needed(
        beside.differences,
        beside.nothing,
        lambda each: (each.low > 0) | (each.high < 0),
        beside.measure,
        confidence,
        at_least,
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
