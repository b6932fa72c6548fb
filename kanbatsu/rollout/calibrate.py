"""Thresholds for drift, from held-out logs, to a stated probability of a false alarm.

What is watched are means over windows of samples. Their spread in a held-out log, autocorrelation
within a window included, is the unit; a cumulative sum (Page, "Continuous inspection schemes",
Biometrika 1954) of what exceeds half a unit is compared with a threshold. The threshold is a
quantile of the largest sum over a horizon, drawn from the log by a circular block bootstrap
(Politis and Romano, 1992): blocks of successive windows keep the dependence between windows. The
bootstrap is done twice over: first a world that the log could have come from, and then a horizon in
it. So it counts that a log of finite length tells its mean, spread and tails with an error; drawn
once, the thresholds raised two to five times as many false alarms as stated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from kanbatsu.rollout.moments import DriftError, Moments

ALLOWANCE = 0.5
"""Units that a window may be off without adding to the sum: half of the smallest shift sought."""

LARGEST = 4.0
"""Units that one window can add at most, so that no single outlier raises an alarm."""

LEAST_BLOCKS = 20
"""Blocks that a held-out log must hold."""

EDGE = 0.01
"""Share of an action's range, at either end, in which it counts as saturated."""

STATISTICS = ("shift", "mahalanobis", "saturation")
"""What is watched: single features, their distance together, actions at their limits."""


@dataclass(frozen=True)
class Windows:
    """How samples become the rows that are watched: one for each window of successive samples."""

    moments: Moments
    """Moments of the training data."""
    low: Float[np.ndarray, " actions"]
    """Lowest value of each entry of an action."""
    high: Float[np.ndarray, " actions"]
    """Highest value of each entry of an action."""
    size: int = 50
    """Number of samples in a window."""

    @property
    def columns(self) -> list[tuple[str, str]]:
        """Statistic and name of each column of a row."""
        actions = [("saturation", f"action[{i}]") for i in range(self.low.size)]
        shifts = [("shift", name) for name in self.moments.names]
        return [*shifts, ("mahalanobis", "observation"), *actions]

    def rows(self, observations: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Return one row for each whole window of a log.

        Args:
            observations: numbers `[samples, features]`.
            actions: numbers `[samples, actions]`.

        Returns:
            float64 `[windows, columns]`: mean standardised features, mean squared Mahalanobis
            distance per feature, share of saturated actions.
        """
        count = len(observations) // self.size
        z = self.moments.standardised(observations[: count * self.size])
        distance = np.square(z @ self.moments.whitening()).mean(axis=1, keepdims=True)
        edge = EDGE * (self.high - self.low)
        acted = actions[: count * self.size]
        # A NaN is in no range: an action that is none counts as saturated.
        inside = (acted > self.low + edge) & (acted < self.high - edge)
        samples = np.concatenate([z, distance, ~inside], axis=1)
        return samples.reshape(count, self.size, -1).mean(axis=1)


@dataclass(frozen=True)
class Calibration:
    """Centre, unit and thresholds of a watch, and the claim that they were made for."""

    center: tuple[float, ...]
    """Mean of each column over the windows of the held-out log."""
    unit: tuple[float, ...]
    """Standard deviation of each column over the windows of the held-out log."""
    thresholds: Mapping[str, float]
    """Cumulative sum at which there is an alarm, by statistic."""
    window: int
    """Number of samples in a window."""
    alpha: float
    """Probability, at most, of any alarm within the horizon while nothing has changed."""
    horizon: int
    """Number of samples that the probability is stated for."""
    block: int
    """Number of successive windows that the bootstrap draws together."""
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
    block: int = 20,
    draws: int = 600,
    seed: int = 0,
) -> Calibration:
    """Find the thresholds that keep false alarms below a stated probability.

    What is assumed: the log comes from the policy and the plant as they will be in service; it is
    stationary beyond the length of a block; it is one log, or several laid end to end, each much
    longer than a block. `alpha` is shared out evenly over the three statistics.

    Args:
        windows: how samples become rows.
        observations: held-out observations `[samples, features]`, in their order in time; not
            those that the moments were taken over.
        actions: actions taken on them, `[samples, actions]`.
        alpha: probability, at most, of any alarm within the horizon.
        horizon: number of samples that `alpha` is stated for.
        block: windows that stay together; longer than any dependence, such as an episode.
        draws: series that are drawn.
        seed: seed of the draws.

    Raises:
        DriftError: The log holds fewer than LEAST_BLOCKS blocks, or numbers that are not finite.
    """
    if not (np.isfinite(observations).all() and np.isfinite(actions).all()):
        raise DriftError("the held-out log holds numbers that are not finite: leave those out")
    rows = windows.rows(observations, actions)
    least = LEAST_BLOCKS * block * windows.size
    if len(rows) < LEAST_BLOCKS * block:
        raise DriftError(
            f"the held-out log has {len(observations):,} samples, and {LEAST_BLOCKS} blocks of "
            f"{block} windows of {windows.size} take {least:,}: log for longer, or use a shorter "
            "block where the dependence is shorter too"
        )
    rng = np.random.default_rng(seed)
    groups = [statistic for statistic, _ in windows.columns]
    center, unit = units(rows, groups)
    off = (rows - center) / unit
    steps = math.ceil(horizon / windows.size)
    series = np.stack([_world(rng, len(rows), steps, block) for _ in range(draws)])
    sums = np.zeros((draws, 2, len(groups)))
    highest = np.zeros((draws, len(groups)))
    for step in range(steps):
        sums = advance(sums, off[series[:, step]], groups)
        np.maximum(highest, sums.max(axis=1), out=highest)
    each = alpha / len(STATISTICS)
    # The quantile's own error: one end of its 95 % interval.
    rank = math.ceil(draws * (1 - each) + 1.645 * math.sqrt(draws * each * (1 - each)))
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
    return Calibration(
        center=tuple(center.tolist()),
        unit=tuple(unit.tolist()),
        thresholds=thresholds,
        window=windows.size,
        alpha=alpha,
        horizon=horizon,
        block=block,
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


def _world(rng: np.random.Generator, length: int, steps: int, block: int) -> np.ndarray:
    """Return the numbers of `steps` windows, drawn from a world that the log could come from.

    Such a world has as many blocks as the log, drawn from it with replacement.
    """
    starts = rng.integers(length, size=length // block)
    drawn = rng.choice(starts, size=math.ceil(steps / block))
    return ((drawn[:, None] + np.arange(block)) % length).reshape(-1)[:steps]
