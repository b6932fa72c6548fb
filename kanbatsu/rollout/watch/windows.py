"""What is watched of observations and actions: means over windows of successive samples."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np

from kanbatsu.rollout.watch.autocorrelation import autocorrelation_times
from kanbatsu.rollout.watch.moments import Moments

EDGE = 0.01
"""Share of an action's range, at either end, in which it counts as saturated."""

STATISTICS = ("shift", "mahalanobis", "saturation")
"""What is watched: single features, their distance together, actions at their limits."""

TIMES = 2.0
"""Autocorrelation times that a window holds at least, so that windows hardly depend on each other;
what is left of their dependence is in the unit (`kanbatsu.rollout.watch.calibrate`)."""


@dataclass(frozen=True)
class Windows:
    """How samples become the rows that are watched: one for each window of successive samples."""

    moments: Moments
    """Moments of the training data."""
    low: np.ndarray
    """Lowest value of each entry of an action, `[actions]`."""
    high: np.ndarray
    """Highest value of each entry of an action, `[actions]`."""
    size: int = 50
    """Number of samples in a window."""

    @property
    def columns(self) -> list[tuple[str, str]]:
        """Statistic and name of each column of a row."""
        actions = [("saturation", f"action[{i}]") for i in range(self.low.size)]
        shifts = [("shift", name) for name in self.moments.names]
        return [*shifts, ("mahalanobis", "observation"), *actions]

    def samples(self, observations: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Return what is watched of each sample by itself.

        Args:
            observations: numbers `[samples, features]`.
            actions: numbers `[samples, actions]`.

        Returns:
            float64 `[samples, columns]`: standardised features, squared Mahalanobis distance per
            feature, 1 for each action that is saturated.
        """
        z = self.moments.standardised(observations)
        distance = np.square(z @ self.moments.whitening()).mean(axis=1, keepdims=True)
        edge = EDGE * (self.high - self.low)
        # A NaN is in no range: an action that is none counts as saturated.
        inside = (actions > self.low + edge) & (actions < self.high - edge)
        return np.concatenate([z, distance, ~inside], axis=1)

    def rows(self, observations: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Return one row for each whole window of a log: the mean of its samples.

        Args:
            observations: numbers `[samples, features]`.
            actions: numbers `[samples, actions]`.

        Returns:
            float64 `[windows, columns]`.
        """
        return self.means(self.samples(observations, actions))

    def means(self, samples: np.ndarray) -> np.ndarray:
        """Return the mean of each whole window of what `samples` returned."""
        count = len(samples) // self.size
        whole = samples[: count * self.size]
        return whole.reshape(count, self.size, samples.shape[1]).mean(axis=1)

    def fitted(self, observations: np.ndarray, actions: np.ndarray) -> Windows:
        """Return windows that are long enough for a log to forget what was in the one before.

        Args:
            observations: numbers `[samples, features]`, in their order in time.
            actions: numbers `[samples, actions]`.

        Returns:
            These windows, or longer ones: `TIMES` times the longest autocorrelation time.

        Example:
            >>> rng = np.random.default_rng(0)
            >>> held = np.repeat(rng.normal(size=(2_000, 1)), 100, axis=0)  # each for 100 samples
            >>> windows = Windows(Moments.of(held), np.array([-1.0]), np.array([1.0]))
            >>> 200 <= windows.fitted(held, 0 * held).size <= 260
            True
        """
        _, time = self.slowest(self.samples(observations, actions))
        return dataclasses.replace(self, size=max(self.size, math.ceil(TIMES * time)))

    def slowest(self, samples: np.ndarray) -> tuple[str, float]:
        """Return the column that is forgotten last, and its autocorrelation time in samples.

        Args:
            samples: numbers `[samples, columns]`, as the method of that name returns them.
        """
        times = autocorrelation_times(samples)
        at = int(np.argmax(times))
        return " of ".join(self.columns[at]), float(times[at])
