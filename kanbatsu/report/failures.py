"""Collapsed runs of an arm: how many there are, and which failure rate they do not exclude.

An interval of means cannot see what has not happened yet: an arm of which one seed in ten collapses
shows no collapse in 59 % of samples of five. So collapses are an outcome of their own, with the
exact bounds of the binomial distribution, and every verdict says what its seeds leave open.

Reference: C. Clopper and E. Pearson 1934, "The use of confidence or fiducial limits illustrated in
the case of the binomial", Biometrika 26.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from scipy.special import betaincinv

from kanbatsu.report.flags import diverged
from kanbatsu.report.results import ArmResults, RunResults

GAIN = 2.0
"""Standard deviations of a control's returns before training that its gain must exceed, for a half
of the gain to tell a collapse from a bad day."""


class Failures(NamedTuple):
    """Collapsed runs of one arm, on the task where they leave the highest rate open."""

    task: str
    failed: int
    runs: int
    low: float
    """Lowest failure rate that the runs do not exclude."""
    high: float
    """Highest failure rate that the runs do not exclude."""


def failures(
    arm: ArmResults, control: ArmResults, tasks: Iterable[str], confidence: float
) -> Failures | None:
    """Count an arm's collapsed runs, and bound its failure rate.

    A run collapsed if it met a number that is not finite, or ended with less than half of what the
    control's median run gained since before training.

    Args:
        arm: The arm, which may be the control itself.
        control: The arm that tells what can be learned.
        tasks: Tasks of the study; the one with the highest bound is returned.
        confidence: Confidence of each bound alone.

    Returns:
        None where no run of the arm has ended.
    """
    counted = []
    for task in tasks:
        floor = collapse_below(control, task)
        ended = [
            run.final_return is None or run.final_return < floor
            for run in arm.on(task)
            if run.final_return is not None
            or (run.state in ("finished", "failed") and diverged(run))
        ]
        if ended:
            low, high = rate_bounds(sum(ended), len(ended), confidence)
            counted.append(Failures(task, sum(ended), len(ended), low, high))
    return max(counted, key=lambda each: (each.high, each.failed), default=None)


def collapse_below(control: ArmResults, task: str) -> float:
    """Return the final return below which a run counts as collapsed, or -inf where none does.

    It lies halfway between the control's returns before training and after it, in the median of its
    runs. A control that learned nothing cannot tell what a collapse is: one whose gain is within
    twice the scatter of its returns before training, as of a correction to a rule that acts well
    from the first step on.
    """
    finals = control.finals(task)
    firsts = [_first(run) for run in control.on(task)]
    known = [value for value in firsts if not math.isnan(value)]
    if not finals.size or not known:
        return -math.inf
    before, after = float(np.median(known)), float(np.median(finals))
    scatter = float(np.std(known, ddof=1)) if len(known) > 1 else 0.0
    return (before + after) / 2 if after - before > GAIN * scatter else -math.inf


def rate_bounds(failed: int, runs: int, confidence: float) -> tuple[float, float]:
    """Return the exact bounds of a failure rate, each of which holds with the confidence.

    Args:
        failed: Runs that failed.
        runs: Runs in all; one or more.
        confidence: Confidence of each bound alone.

    Example:
        >>> [round(rate_bounds(0, seeds, 0.95)[1], 2) for seeds in (5, 10, 20)]
        [0.45, 0.26, 0.14]
    """
    low = float(betaincinv(failed, runs - failed + 1, 1 - confidence)) if failed else 0.0
    high = float(betaincinv(failed + 1, runs - failed, confidence)) if failed < runs else 1.0
    return low, high


def clean_seeds(rate: float, confidence: float) -> int:
    """Return how many seeds without a collapse exclude a failure rate.

    Example:
        >>> [clean_seeds(rate, 0.95) for rate in (0.5, 0.3, 0.1)]
        [5, 9, 29]
    """
    return math.ceil(math.log(1 - confidence) / math.log(1 - rate) - 1e-9)


def _first(run: RunResults) -> float:
    return next(iter(run.returns.values()), math.nan)
