"""How far one arm is from another, with an interval that holds for few seeds.

The percentile bootstrap of `kanbatsu.report.stats` is too narrow for five or ten seeds
(benchmarks/planted.py measures by how much), so a decision is not taken from it. Here the
difference of two trimmed means gets the interval of Yuen, which uses Student's t with as many
degrees of freedom as the runs support; without trimming it is Welch's.

Everything takes arrays `[..., seeds]`, so that thousands of imagined studies go in one call.

Reference: K. Yuen 1974, "The two-sample trimmed t for unequal population variances", Biometrika 61;
R. Newcombe 2006, "Confidence intervals for an effect size measure based on the Mann-Whitney
statistic, part 2", Statistics in Medicine 25.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import ndtri, stdtrit

from kanbatsu.report import stats

MEASURES = ("iqm_difference", "iqm_relative", "mean_difference", "mean_relative")
"""Measures of an effect: a difference of IQMs or means, in the task's unit, or as a share of the
control's."""

ROUNDING = 1e-6
"""Share of the returns below which a scatter counts as rounding: sums of single-precision rewards
in another order differ by so much, and runs that do not differ say nothing about chance."""

Numbers = np.ndarray | np.float64
Seeds = Float[np.ndarray, "... _"]


class Centre(NamedTuple):
    """A mean or an IQM of runs, with what its interval needs; arrays `[...]`."""

    value: np.ndarray
    variance: np.ndarray
    """Estimated variance of `value`."""
    freedom: int
    """Degrees of freedom of that estimate; 0 where one run says nothing about spread."""


class Effect(NamedTuple):
    """An effect and its interval; arrays `[...]`, NaN ends where there is none."""

    value: Numbers
    low: Numbers
    high: Numbers


def centre(scores: Seeds, measure: str) -> Centre:
    """Return the mean or the IQM of the last axis, and the variance of that estimate.

    The IQM drops `seeds // 4` runs at each end. Its variance comes from the winsorised runs, in
    which dropped ones are replaced by the nearest that stay.

    Args:
        scores: `[..., seeds]`.
        measure: One of `MEASURES`.

    Example:
        >>> centre(np.array([0.0, 1.0, 3.0, 100.0]), "iqm_difference").value
        np.float64(2.0)
    """
    n = scores.shape[-1]
    cut = n // 4 if measure.startswith("iqm") else 0
    left = n - 2 * cut
    ordered = np.sort(scores, axis=-1) if cut else scores
    value = ordered[..., cut : n - cut].mean(axis=-1)
    if left < 2:
        return Centre(value, np.full_like(value, np.nan), 0)
    ends = ordered[..., [cut]], ordered[..., [n - cut - 1]]
    winsorised = np.clip(ordered, *ends) if cut else ordered
    spread = ((winsorised - winsorised.mean(axis=-1, keepdims=True)) ** 2).sum(axis=-1)
    return Centre(value, spread / (left * (left - 1)), left - 1)


def effect(x: Sequence[Seeds], y: Sequence[Seeds], measure: str, confidence: float) -> Effect:
    r"""Return the effect of X over Y, averaged over tasks, and its interval.

    $$ \hat\delta = \frac1T \sum_t (\bar x_t - \bar y_t) s_t, \qquad
       \hat\delta \pm t_{\nu} \sqrt{\sum_t v_t / T^2} $$

    with $s_t = 1$ for a difference and $1 / |\bar y_t|$ for a relative effect, whose variance
    counts the control's too (delta method), and with Welch and Satterthwaite's degrees of freedom.

    Args:
        x: One array `[..., seeds]` per task.
        y: The same tasks in the same order.
        measure: One of `MEASURES`.
        confidence: Confidence of the two-sided interval, such as 0.95.

    Returns:
        The effect; NaN where a control of zero makes a relative effect meaningless, and NaN ends
        where one run, or runs that differ by rounding alone, say nothing about chance.

    Example:
        >>> x, y = np.array([3.0, 4.0, 5.0]), np.array([1.0, 2.0, 3.0])
        >>> estimate = effect([x], [y], "mean_difference", 0.95)
        >>> [round(float(number), 3) for number in estimate]
        [2.0, -0.267, 4.267]
    """
    values, parts, freedoms, magnitudes = [], [], [], []
    for task_x, task_y in zip(x, y, strict=True):
        a, b = centre(task_x, measure), centre(task_y, measure)
        magnitude = np.maximum(np.abs(task_x).max(axis=-1), np.abs(task_y).max(axis=-1))
        if measure.endswith("relative"):
            scale = np.abs(b.value)
            scale = np.where(scale > 0, scale, np.nan)
            values.append((a.value - b.value) / scale)
            parts += [a.variance / scale**2, b.variance * a.value**2 / scale**4]
            magnitude = magnitude / scale
        else:
            values.append(a.value - b.value)
            parts += [a.variance, b.variance]
        freedoms += [a.freedom, b.freedom]
        magnitudes.append(magnitude)
    value = np.mean(values, axis=0)
    if min(freedoms) < 1:
        unknown = np.full_like(value, np.nan)
        return Effect(value, unknown, unknown)
    shares = np.stack(parts, axis=-1) / len(values) ** 2
    variance = shares.sum(axis=-1)
    alike = np.sqrt(variance) <= ROUNDING * np.mean(magnitudes, axis=0)
    shares = np.where(alike[..., None], np.nan, shares)
    variance = shares.sum(axis=-1)
    nu = variance**2 / (shares**2 / np.array(freedoms)).sum(axis=-1)
    reach = stdtrit(nu, 0.5 + confidence / 2) * np.sqrt(variance)
    return Effect(value, value - reach, value + reach)


def improvement(x: stats.Scores, y: stats.Scores, confidence: float) -> stats.Estimate:
    r"""Return the probability of improvement of X over Y with an interval for few seeds.

    The interval holds the probabilities $\theta$ whose own standard error explains the estimate,
    $|\theta - \hat\theta| \le z \sqrt{V(\theta)}$, with the variance of Hanley and McNeil
    (Newcombe's method 5). Unlike a bootstrap it does not shrink to a point where every run of X
    beats every run of Y.

    Args:
        x: One array of seeds per task.
        y: The same tasks in the same order.
        confidence: Confidence of the two-sided interval.

    Example:
        >>> x, y = np.arange(5.0, 10.0), np.arange(5.0)
        >>> estimate = improvement([x], [y], 0.95)
        >>> estimate.value, round(estimate.low, 2), estimate.high
        (1.0, 0.64, 1.0)
    """
    value = stats.improvement(x, y)
    if min(task.size for task in [*x, *y]) < 2:
        return stats.Estimate(value, float("nan"), float("nan"))
    z = float(ndtri(0.5 + confidence / 2))
    theta = np.linspace(0.0, 1.0, 10_001)
    spread = (1 - theta) / (2 - theta) + theta / (1 + theta)
    variance = np.zeros_like(theta)
    for a, b in zip(x, y, strict=True):
        middle = (a.size + b.size) / 2 - 1
        variance += theta * (1 - theta) * (1 + middle * spread) / (a.size * b.size)
    inside = theta[np.abs(theta - value) <= z * np.sqrt(variance) / len(x) + 1e-12]
    return stats.Estimate(value, float(inside.min()), float(inside.max()))
