"""How many seeds a decision needs, found by imagining studies out of the runs that there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from kanbatsu.report import stats
from kanbatsu.report.effect import Effect, effect

POWER = 0.8
"""Chance to decide that the number of further seeds is computed for."""
STUDIES = 1_000
"""Studies imagined for each number of seeds: a chance of 0.8 is then known to within 0.025."""
MOST_SEEDS = 200
"""Most seeds per arm and task that are considered; what needs more is not worth asking for."""


def imagine(
    scores: Float[np.ndarray, " _"], seeds: int, rng: np.random.Generator, studies: int
) -> Float[np.ndarray, "studies {seeds}"]:
    """Draw runs that scatter as those given do.

    Deviations from the mean are drawn with replacement and stretched by sqrt(n / (n - 1)), so that
    their variance is the unbiased estimate of the runs' own.

    Args:
        scores: Final returns; two or more.
        seeds: Runs in each imagined study.
        rng: Source of the draws.
        studies: How many to imagine.

    Example:
        >>> drawn = imagine(np.array([1.0, 3.0]), 4, np.random.default_rng(0), 1000)
        >>> drawn.shape, sorted(set(drawn.ravel().round(3).tolist()))
        ((1000, 4), [0.586, 3.414])
    """
    n = scores.size
    deviations = (scores - scores.mean()) * np.sqrt(n / (n - 1))
    return scores.mean() + deviations[rng.integers(n, size=(studies, seeds))]


def power(
    x: stats.Scores,
    y: stats.Scores,
    seeds: int,
    decides: Callable[[Effect], Any],
    measure: str,
    confidence: float,
    rng: np.random.Generator,
) -> float:
    """Return the chance that a study of that many seeds per arm and task decides.

    It takes what was measured for the truth.

    Args:
        x: Final returns of the arm, one array of seeds per task.
        y: Final returns of the control.
        seeds: Seeds of each arm on each task in the imagined studies.
        decides: From effects to whether each decides the question.
        measure: See `kanbatsu.report.effect.MEASURES`.
        confidence: Confidence of each interval.
        rng: Source of the draws.
    """
    arm, control = ([imagine(task, seeds, rng, STUDIES) for task in side] for side in (x, y))
    return float(np.mean(decides(effect(arm, control, measure, confidence))))


def seeds_needed(
    x: stats.Scores,
    y: stats.Scores,
    decides: Callable[[Effect], Any],
    measure: str,
    confidence: float,
    at_least: int,
) -> int | None:
    """Return the fewest seeds per arm and task that decide with a chance of `POWER`.

    Args: as for `power`; `at_least` is the smallest number to consider.

    Returns:
        None if more than `MOST_SEEDS` would be needed, or one run says nothing about spread.
    """
    if min(task.size for task in [*x, *y]) < 2:
        return None

    def enough(seeds: int) -> bool:
        rng = np.random.default_rng(seeds)
        return power(x, y, seeds, decides, measure, confidence, rng) >= POWER

    return fewest(enough, at_least, MOST_SEEDS)


def fewest(enough: Callable[[int], bool], low: int, high: int) -> int | None:
    """Find by bisection the smallest number that is enough; None if `high` is not.

    Example:
        >>> fewest(lambda n: n * n >= 50, 1, 100), fewest(lambda n: False, 1, 100)
        (8, None)
    """
    if low >= high:
        return high if enough(high) else None
    if enough(low):
        return low
    if not enough(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
