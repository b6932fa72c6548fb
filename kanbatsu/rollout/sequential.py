"""Anytime-valid limits of a mean: as many looks as one likes, one chance of error in all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

FRACTIONS = tuple(0.9 * 2.0**-power for power in range(12))
"""Bets of the mixture, as shares of the largest that cannot go broke: 0.9 down to 0.0004. One of
them is near the best bet, whatever that is, and twelve cost log(12) = 2.5 of its logarithm."""


class Limits(NamedTuple):
    """Limits of a mean, at every moment so far with the chance asked for."""

    low: np.ndarray
    """Lower limit `[*runs]`."""
    high: np.ndarray
    """Upper limit `[*runs]`."""


@dataclass
class ConfidenceSequence:
    """Limits of a mean that hold at all times at once, by betting against every other value.

    Whoever claims that the mean of z is m, or less, must offer fair bets on z - m. A gambler who
    stakes the share f of what cannot go broke multiplies their capital by 1 + f (z - m) / (m - a),
    where z is at least a. If the claim is true, the capital is a martingale (or falls on average)
    that begins at 1 and is never negative, so it ever reaches 2 / alpha with chance alpha / 2 at
    most (Ville's inequality), however many looks there are. Values of m against which it has are
    excluded; and alike from above, with 1 + f (m - z) / (b - m), where z is at most b. The
    gambler's capital is the mean over those who always bet one of FRACTIONS: a mean of martingales
    is one.

    Nothing is assumed of z but its bounds and its mean, given the past: values need neither be
    independent nor alike. Bounds may change from value to value, if they are known beforehand.
    Where the mean moves, what is excluded is a mean that stays at m, or on m's other side.

    Args:
        points: values m that the mean is tried against `[points]`, increasing.
        alpha: chance that the mean ever leaves its limits.
        runs: how many sequences are followed at once, as a shape.

    Example:
        >>> sequence = ConfidenceSequence(np.linspace(0.0, 1.0, 101), alpha=0.05)
        >>> for value in [0.5, 0.6] * 100:
        ...     sequence.add(value, 0.0, 1.0)
        >>> low, high = sequence.limits()
        >>> bool(0.45 < low < 0.55 < high < 0.65)
        True

    Source: Waudby-Smith and Ramdas 2024, "Estimating means of bounded random variables by betting",
    section 4 (capital processes) and its mixtures of constant bets; Ville 1939. Derived anew here
    for bounds that change; no code was taken.
    """

    points: np.ndarray
    alpha: float
    runs: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        shape = (*self.runs, len(FRACTIONS), len(self.points))
        # Capital of those who bet that the mean lies above a point, and below it.
        self._above, self._below = np.ones(shape), np.ones(shape)
        self._low = np.full(self.runs, -np.inf)
        self._high = np.full(self.runs, np.inf)

    def add(
        self, value: float | np.ndarray, lowest: float | np.ndarray, highest: float | np.ndarray
    ) -> None:
        """Take one more value.

        Args:
            value: of each run, `[*runs]`, or one for all.
            lowest: least that it could have been, known before it was seen.
            highest: most that it could have been.

        Raises:
            ValueError: A value outside its bounds, for which nothing would hold.
        """
        value, lowest, highest = (
            np.asarray(x, np.float64)[..., None, None] for x in (value, lowest, highest)
        )
        rounding = 1e-9 * (highest - lowest)
        if not ((lowest - rounding <= value) & (value <= highest + rounding)).all():  # or a NaN
            raise ValueError("a value lies outside the bounds that were given for it")
        value = np.minimum(np.maximum(value, lowest), highest)
        shares = np.array(FRACTIONS)[:, None]
        # A point outside the bounds cannot be the mean: a step of 0 leaves it as it is.
        for capital, gain, room in (
            (self._above, value - self.points, self.points - lowest),
            (self._below, self.points - value, highest - self.points),
        ):
            inside = room > 0.0
            capital *= 1.0 + shares * np.where(inside, gain, 0.0) / np.where(inside, room, 1.0)
            # What is won already is never asked for again, and must not overflow.
            np.minimum(capital, 1e300, out=capital)
        won = self._above.mean(-2) >= 2.0 / self.alpha
        low = np.where(won, self.points, -np.inf).max(-1)
        won = self._below.mean(-2) >= 2.0 / self.alpha
        high = np.where(won, self.points, np.inf).min(-1)
        self._low, self._high = np.maximum(self._low, low), np.minimum(self._high, high)

    def limits(self) -> Limits:
        """Return the limits; infinite where nothing is excluded yet."""
        return Limits(self._low.copy(), self._high.copy())


class Difference:
    """Limits of how much a candidate is better than an incumbent, where chance picks who acts.

    An outcome x in [0, 1] of an episode counts as z = (x - c) (A / p - (1 - A) / (1 - p)), where A
    is 1 for the candidate, p the share at which it was drawn, and c the mean of the outcomes
    before. Given the past, the mean of z is the difference of the two means in this episode,
    whatever c is and however the world changes from episode to episode: what both meet alike is no
    difference. c only makes z small.

    Args:
        alpha: chance that the difference ever leaves its limits.
        runs: how many rollouts are followed at once, as a shape.
        points: differences that are tried, increasing; 401 from -1 to 1 by default.

    Example:
        >>> generator = np.random.default_rng(0)
        >>> difference = Difference(alpha=0.05)
        >>> for _ in range(300):
        ...     candidate = generator.random() < 0.25
        ...     outcome = np.clip(generator.normal(0.4 if candidate else 0.6, 0.1), 0.0, 1.0)
        ...     difference.add(outcome, candidate, share=0.25)
        >>> low, high = difference.limits()
        >>> bool(-0.35 < low < -0.2 < high < -0.05)
        True

    Source: the inverse-propensity estimate with a baseline that is known beforehand; its confidence
    sequences by betting are those of Waudby-Smith, Wu, Ramdas, Karampatziakis and Mineiro 2024,
    "Anytime-valid off-policy inference for contextual bandits".
    """

    def __init__(
        self,
        alpha: float,
        runs: tuple[int, ...] = (),
        points: np.ndarray | None = None,
    ) -> None:
        points = np.linspace(-1.0, 1.0, 401) if points is None else points
        self._sequence = ConfidenceSequence(points, alpha, runs)
        self._total, self._count = np.zeros(runs), 0

    def add(self, outcome: float | np.ndarray, candidate: bool | np.ndarray, share: float) -> None:
        """Take the outcome of one episode.

        Args:
            outcome: in [0, 1], `[*runs]`.
            candidate: whether the candidate acted, `[*runs]`.
            share: chance with which it was drawn, in (0, 1).
        """
        centre = (0.5 + self._total) / (1.0 + self._count)
        weight = np.where(candidate, 1.0 / share, -1.0 / (1.0 - share))
        lowest = -np.maximum(centre / share, (1.0 - centre) / (1.0 - share))
        highest = np.maximum((1.0 - centre) / share, centre / (1.0 - share))
        self._sequence.add((outcome - centre) * weight, lowest, highest)
        self._total = self._total + outcome
        self._count += 1

    def limits(self) -> Limits:
        """Return the limits of candidate less incumbent; -1 and 1 where nothing is known."""
        low, high = self._sequence.limits()
        return Limits(np.maximum(low, -1.0), np.minimum(high, 1.0))
