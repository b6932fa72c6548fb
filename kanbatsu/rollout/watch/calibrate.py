"""Thresholds for drift, from held-out logs, to a stated probability of a false alarm.

What is watched are means over windows that are longer than the log's memory
(`kanbatsu.rollout.watch.windows`). Their spread in a held-out log is the unit, raised by what
dependence is left between neighbours and by the standard error of that estimate. A cumulative sum
(Page, "Continuous inspection schemes", Biometrika 1954) of what exceeds half a unit is compared
with a threshold: a quantile of the largest sum over a horizon, drawn from the log by a bootstrap.
It is done twice over: first a world that the log could have come from, then a horizon in it, so
that it counts that a log of finite length tells its mean, spread and tails with an error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from kanbatsu.rollout.watch.moments import DriftError
from kanbatsu.rollout.watch.windows import STATISTICS, TIMES, Windows

ALLOWANCE = 0.5
"""Units that a window may be off without adding to the sum: half of the smallest shift sought."""

LARGEST = 4.0
"""Units that one window can add at most, so that no single outlier raises an alarm."""

LEAST = 100
"""Windows that a held-out log must hold: with fewer, its mean, spread and tails are not known well
enough for any stated rate."""

LAGS = 2
"""Windows apart at which the rest of their dependence is looked for."""


@dataclass(frozen=True)
class Calibration:
    """Centre, unit and thresholds of a watch, and the claim that they were made for."""

    center: tuple[float, ...]
    """Mean of each column over the windows of the held-out log."""
    unit: tuple[float, ...]
    """Long-run standard deviation of each column over the windows of the held-out log."""
    thresholds: Mapping[str, float]
    """Cumulative sum at which there is an alarm, by statistic."""
    window: int
    """Number of samples in a window."""
    alpha: float
    """Probability, at most, of any alarm within the horizon while nothing has changed."""
    horizon: int
    """Number of samples that the probability is stated for."""
    slowest: str
    """Statistic and name of the column with the longest autocorrelation time."""
    memory: float
    """Autocorrelation time of that column in samples, its standard error added."""
    samples: int
    """Number of samples in the held-out log."""

    def table(self) -> dict[str, Any]:
        """Return the calibration as JSON; `of` reads it back."""
        return {**asdict(self), "center": list(self.center), "unit": list(self.unit)}

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> Calibration:
        """Read what `table` returned."""
        lists = {name: tuple(table[name]) for name in ("center", "unit")}
        return cls(**{**table, **lists})


def calibrate(
    windows: Windows,
    observations: np.ndarray,
    actions: np.ndarray,
    *,
    alpha: float = 0.05,
    horizon: int = 100_000,
    draws: int = 600,
    seed: int = 0,
) -> Calibration:
    """Find the thresholds that keep false alarms below a stated probability.

    What is assumed: the log comes from the policy and the plant as they will be in service, and
    shows what they do over times much longer than its own memory: what changes once a day is not
    in a log of an hour. `alpha` is shared out evenly over the three statistics.

    Args:
        windows: how samples become rows; `Windows.fitted` makes them long enough.
        observations: held-out observations `[samples, features]`, in their order in time; not
            those that the moments were taken over.
        actions: actions taken on them, `[samples, actions]`.
        alpha: probability, at most, of any alarm within the horizon.
        horizon: number of samples that `alpha` is stated for.
        draws: series that are drawn.
        seed: seed of the draws.

    Raises:
        DriftError: The log is too short for a stated rate, holds numbers that are not finite, or
            its windows depend on each other.
    """
    if not (np.isfinite(observations).all() and np.isfinite(actions).all()):
        raise DriftError("the held-out log holds numbers that are not finite: leave those out")
    samples = windows.samples(observations, actions)
    slowest, memory = windows.slowest(samples)
    needed = max(windows.size, math.ceil(TIMES * memory))
    if len(samples) < LEAST * needed:
        raise DriftError(
            f"the held-out log is too short to state a rate of false alarms: it has "
            f"{len(samples):,} samples, and {LEAST * needed:,} are needed, {LEAST} windows of "
            f"{needed:,}. The autocorrelation time of its {slowest} is {memory:,.0f} samples. Log "
            "for longer, or leave slow features out of the observation that is watched"
        )
    if windows.size < needed:
        raise DriftError(
            f"windows of {windows.size} samples depend on each other: the autocorrelation time of "
            f"{slowest} is {memory:,.0f} samples. Use windows of {needed:,}, as Windows.fitted does"
        )
    rows = windows.means(samples)
    rng = np.random.default_rng(seed)
    groups = [statistic for statistic, _ in windows.columns]
    center, spread = units(rows, groups)
    off = (rows - center) / spread
    worlds = rng.integers(len(rows), size=(draws, len(rows)))
    sums = np.zeros((draws, 2, len(groups)))
    highest = np.zeros((draws, len(groups)))
    for _ in range(math.ceil(horizon / windows.size)):
        now = rng.integers(len(rows), size=draws)
        sums = advance(sums, off[worlds[np.arange(draws), now]], groups)
        np.maximum(highest, sums.max(axis=1), out=highest)
    return Calibration(
        center=tuple(center.tolist()),
        unit=tuple((spread * _long_run(off)).tolist()),
        thresholds=_thresholds(highest, groups, alpha),
        window=windows.size,
        alpha=alpha,
        horizon=horizon,
        slowest=slowest,
        memory=memory,
        samples=len(observations),
    )


def units(rows: np.ndarray, groups: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return centre and unit of each column of rows `[windows, columns]`."""
    # A column that does not move in the log must not make a hair's breadth an alarm.
    least = [0.02 if group == "saturation" else 0.05 for group in groups]
    return rows.mean(axis=0), np.maximum(rows.std(axis=0), least)


def advance(sums: np.ndarray, off: np.ndarray, groups: list[str]) -> np.ndarray:
    """Return the cumulative sums after one more window.

    Args:
        sums: sums so far, `[..., 2, columns]`: upwards and downwards.
        off: units that the window is off, `[..., columns]`.
        groups: statistic of each column; only shifts count downwards.
    """
    down = np.array([group == "shift" for group in groups])
    both = np.stack([off, np.where(down, -off, -LARGEST)], axis=-2)
    moved: np.ndarray = np.maximum(0.0, sums + np.minimum(both, LARGEST) - ALLOWANCE)
    return moved


def _thresholds(highest: np.ndarray, groups: list[str], alpha: float) -> dict[str, float]:
    """Return by statistic what the highest sums `[draws, columns]` exceed as seldom as asked."""
    draws, share = len(highest), alpha / len(STATISTICS)
    # The quantile's own error: one end of its 95 % interval.
    rank = math.ceil(draws * (1 - share) + 1.645 * math.sqrt(draws * share * (1 - share)))
    if rank > draws:
        raise DriftError(
            f"{draws} draws cannot show a probability of {alpha:g}: raise draws or alpha"
        )
    thresholds = {}
    for statistic in STATISTICS:
        columns = [group == statistic for group in groups]
        if any(columns):
            quantile = np.sort(highest[:, columns].max(axis=1))[rank - 1]
            # One window alone is no alarm, not even where nothing ever moved in the log.
            thresholds[statistic] = max(LARGEST, float(quantile))
    return thresholds


def _long_run(off: np.ndarray) -> np.ndarray:
    """Return how much wider sums of windows spread than if the windows were independent.

    Args:
        off: standardised columns `[windows, columns]`.

    Returns:
        Factor of each column, at least 1.
    """
    count = len(off)
    variance = np.square(off).mean(axis=0)
    for lag in range(1, LAGS + 1):
        variance = variance + 2 * (off[lag:] * off[:-lag]).sum(axis=0) / count
    # The estimate's own standard error, relative to it.
    raised = np.maximum(1.0, variance) * (1 + math.sqrt(2 * (2 * LAGS + 1) / count))
    return np.sqrt(raised)
