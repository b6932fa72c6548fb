"""The few estimators that a study needs: IQM, probability of improvement, and their intervals.

Scores are one array of seeds per task. Intervals are stratified: seeds are resampled within each
task and tasks stay as they are, so an interval speaks about new seeds on the same tasks. Every
random draw comes from the generator given: the same data and seed give the same interval.

A single seed on a task says nothing about spread: such an interval is NaN, never a false point.

Reference: Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical
Precipice", NeurIPS, arXiv:2108.13264. Differs from its library, rliable, only in that tasks may
have different numbers of seeds; tests/report/test_rliable.py compares the two.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

SAMPLES = 10_000
"""Bootstrap samples: the ends of a 95 % interval then move by under 2 % of its width by chance."""

LEVEL = 95.0
"""Coverage of every interval, in percent."""

Scores = Sequence[Float[np.ndarray, " _"]]


@dataclass(frozen=True)
class Estimate:
    """A number and its 95 % interval; NaN ends where one seed per task gives no interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Curve:
    """A mean at each point of an axis and its pointwise 95 % interval; NaN where unknown."""

    mean: Float[np.ndarray, " points"]
    low: Float[np.ndarray, " points"]
    high: Float[np.ndarray, " points"]


def iqm(scores: Float[np.ndarray, " ..."]) -> float:
    """Interquartile mean: drop the lowest and the highest quarter of all scores, average the rest.

    A quarter is rounded down, so with fewer than four scores nothing is dropped.

    Args:
        scores: At least one score, in any shape: tasks and seeds are pooled.

    Example:
        >>> iqm(np.array([0.0, 1.0, 3.0, 100.0]))
        2.0
    """
    return float(_trimmed_means(scores.reshape(1, -1))[0])


def bootstrap_iqm(
    scores: Scores, rng: np.random.Generator, samples: int = SAMPLES
) -> Float[np.ndarray, " samples"]:
    """Draw the IQM of studies that could have been: seeds resampled within each task.

    Args:
        scores: One array of seeds per task.
        rng: Source of the draws.
        samples: How many studies to imagine.
    """
    drawn = [task[rng.integers(task.size, size=(samples, task.size))] for task in scores]
    return _trimmed_means(np.concatenate(drawn, axis=1))


def iqm_interval(scores: Scores, rng: np.random.Generator) -> Estimate:
    """IQM over all tasks and seeds with its 95 % stratified bootstrap percentile interval.

    Args:
        scores: One array of seeds per task. Tasks are pooled, so their units must agree.
        rng: Source of the draws.

    Example:
        >>> estimate = iqm_interval([np.array([1.0, 2.0, 3.0])], np.random.default_rng(0))
        >>> estimate.value, estimate.low, estimate.high
        (2.0, 1.0, 3.0)
    """
    value = iqm(np.concatenate(list(scores)))
    return _estimate(value, bootstrap_iqm(scores, rng), scores)


def improvement(x: Scores, y: Scores) -> float:
    """Probability that a run of X beats a run of Y on the same task, averaged over tasks.

    P(X > Y) = mean over tasks of [#(x > y) + #(x = y) / 2] / (#x #y), over all pairs of seeds: the
    Mann-Whitney U statistic, scaled. It needs no common unit across tasks.

    Args:
        x: One array of seeds per task.
        y: The same tasks in the same order; seeds need not correspond.

    Example:
        >>> improvement([np.array([1.0, 3.0])], [np.array([1.0, 2.0])])
        0.625
    """
    return float(np.mean([_half_wins(a, b).mean() / 2 for a, b in zip(x, y, strict=True)]))


def bootstrap_improvement(
    x: Scores, y: Scores, rng: np.random.Generator, samples: int = SAMPLES
) -> Float[np.ndarray, " samples"]:
    """Draw the probability of improvement with the seeds of X and of Y resampled, within tasks.

    Args:
        x: One array of seeds per task.
        y: The same tasks in the same order.
        rng: Source of the draws.
        samples: How many studies to imagine.
    """
    drawn = []
    for a, b in zip(x, y, strict=True):
        counts_a, counts_b = (
            _multiplicities(a.size, samples, rng),
            _multiplicities(b.size, samples, rng),
        )
        pairs = ((counts_a @ _half_wins(a, b)) * counts_b).sum(axis=1)
        drawn.append(pairs / (2 * a.size * b.size))
    return np.mean(drawn, axis=0)


def improvement_interval(x: Scores, y: Scores, rng: np.random.Generator) -> Estimate:
    """Probability of improvement of X over Y with its 95 % stratified bootstrap interval.

    Args:
        x: One array of seeds per task.
        y: The same tasks in the same order.
        rng: Source of the draws.
    """
    return _estimate(improvement(x, y), bootstrap_improvement(x, y, rng), [*x, *y])


def mean_curve(curves: Sequence[Float[np.ndarray, "_ points"]], rng: np.random.Generator) -> Curve:
    """Mean curve over runs, then over tasks, with a pointwise 95 % stratified bootstrap interval.

    Args:
        curves: One array [seeds, points] per task, on one axis of points. NaN marks a point that a
            run does not have. Only points at which every task has a run get a mean, so that the
            curve never changes its composition of tasks along the way.
        rng: Source of the draws.

    Example:
        >>> mean_curve([np.array([[0.0, 2.0], [4.0, np.nan]])], np.random.default_rng(0)).mean
        array([2., 2.])
    """
    present = [~np.isnan(task) for task in curves]
    points = curves[0].shape[1]
    curve = Curve(*(np.full(points, np.nan) for _ in range(3)))
    # Points that the same runs reach share their resampled runs: one draw for each such group.
    patterns, group = np.unique(np.concatenate(present), axis=1, return_inverse=True)
    for index in range(patterns.shape[1]):
        at = np.flatnonzero(group.reshape(-1) == index)
        values = [task[mask[:, at[0]]][:, at] for task, mask in zip(curves, present, strict=True)]
        if min(len(task) for task in values) == 0:
            continue
        curve.mean[at] = np.mean([task.mean(axis=0) for task in values], axis=0)
        if min(len(task) for task in values) > 1:
            drawn = [_multiplicities(len(t), SAMPLES, rng) @ t / len(t) for t in values]
            curve.low[at], curve.high[at] = _percentiles(np.mean(drawn, axis=0))
    return curve


def median(values: Iterable[float | None]) -> float | None:
    """Return the median of the values that are known; None where none is."""
    known = [value for value in values if value is not None]
    return float(statistics.median(known)) if known else None


def _trimmed_means(scores: Float[np.ndarray, "rows n"]) -> Float[np.ndarray, " rows"]:
    cut = scores.shape[1] // 4
    return np.sort(scores, axis=1)[:, cut : scores.shape[1] - cut].mean(axis=1)


def _half_wins(x: Float[np.ndarray, " n"], y: Float[np.ndarray, " m"]) -> Float[np.ndarray, "n m"]:
    """Return 2 for a win of x, 1 for a tie, 0 for a loss: small integers, so sums are exact."""
    return np.sign(x[:, None] - y[None, :]) + 1.0


def _multiplicities(
    n: int, samples: int, rng: np.random.Generator
) -> Float[np.ndarray, "samples n"]:
    """Return how often each of `n` seeds is drawn when `n` seeds are drawn with replacement."""
    return rng.multinomial(n, np.full(n, 1 / n), size=samples).astype(float)


def _percentiles(drawn: Float[np.ndarray, "samples ..."]) -> Float[np.ndarray, "2 ..."]:
    tail = (100 - LEVEL) / 2
    return np.percentile(drawn, [tail, 100 - tail], axis=0)


def _estimate(value: float, drawn: Float[np.ndarray, " samples"], strata: Scores) -> Estimate:
    if min(task.size for task in strata) < 2:
        return Estimate(value, float("nan"), float("nan"))
    low, high = _percentiles(drawn)
    return Estimate(value, float(low), float(high))
