"""Decentralised PI control: what a control room would do with four tanks, tuned by search."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from kanbatsu.envs.four_tank import (
    EFFORT,
    MOST_VOLTS,
    SECONDS,
    STEPS,
    Course,
    Tanks,
    advance,
    draw_course,
    target,
)


class Gains(NamedTuple):
    """Settings of two PI loops: pump 1 holds tank 1, pump 2 holds tank 2."""

    volts_per_cm: tuple[float, float]
    """Proportional gain of each loop."""
    seconds: tuple[float, float]
    """Time of each loop's integral."""


PUBLISHED = Gains((1.5, 1.35), (30.0, 40.0))
"""Settings of Johansson 2000 for this operating point: 3.0 and 2.7 volts of the pump for a volt of
the sensor, which gives half a volt for a centimetre."""
TUNED = Gains((1.261, 1.472), (21.21, 28.28))
"""Settings that `search` finds on the episodes of seeds 0 to 127 (benchmarks/plant.py)."""


class PI:
    """Two PI loops around the operating point, whose integrals stop where a pump is at its limit.

    Args:
        gains: of both loops.
        tanks: process whose operating point the loops begin from.

    Example:
        >>> loops = PI(PUBLISHED)
        >>> on_target = np.array([12.0, 12.0, 2.0, 2.0, 12.0, 12.0, 3.0, 3.0])
        >>> loops(on_target).tolist()
        [3.0, 3.0]

    Source: Johansson 2000, "The Quadruple-Tank Process", section V: decentralised PI control, which
    pairs pump 1 with tank 1 where most of the flow goes to the lower tanks.
    """

    def __init__(self, gains: Gains, tanks: Tanks | None = None) -> None:
        self._gain, self._seconds = map(np.array, gains)
        self._centre = np.array((tanks or Tanks()).volts)
        self.reset()

    def reset(self) -> None:
        """Begin an episode: nothing is summed up yet."""
        self._sum = np.zeros(2)

    def __call__(self, obs: Float[np.ndarray, "*many 8"]) -> Float[np.ndarray, "*many 2"]:
        """Return the voltages for an observation; leading axes are loops of their own."""
        numbers = np.asarray(obs, np.float64)
        error = numbers[..., 4:6] - numbers[..., :2]
        total = self._sum + SECONDS * error
        wanted = self._centre + self._gain * (error + total / self._seconds)
        volts = np.minimum(np.maximum(wanted, 0.0), MOST_VOLTS)
        # What cannot be done is not summed up, unless it leads back.
        self._sum = np.where(
            (wanted != volts) & ((wanted > volts) == (error > 0)), self._sum, total
        )
        return volts


def four_tank() -> PI:
    """Return the tuned loops of plant/four-tank: an incumbent by name.

    Example:
        >>> four_tank().reset()
    """
    return PI(TUNED)


def returns(
    gains: Gains, seeds: range, tanks: Tanks | None = None
) -> Float[np.ndarray, " episodes"]:
    """Return what episodes of these seeds pay the loops; they are those of the task itself.

    Example:
        >>> bool((returns(PUBLISHED, range(2)) < 0.0).all())
        True
    """
    tanks = tanks or Tanks()
    drawn = [draw_course(tanks, np.random.default_rng(seed)) for seed in seeds]
    course = Course(*(np.stack(part) for part in zip(*drawn, strict=True)))
    levels, loops = course.levels, PI(gains, tanks)
    last, total = np.broadcast_to(tanks.volts, (len(seeds), 2)), np.zeros(len(seeds))
    for step in range(STEPS):
        aim = target(course, step)
        seen = np.maximum(levels + course.noise[:, step], 0.0)
        # Rounded as an observation is.
        volts = loops(np.concatenate([seen, aim, last], -1).astype(np.float32))
        volts = volts.astype(np.float32).astype(np.float64)
        levels = advance(tanks, levels, course.wear * volts)
        total -= ((levels[:, :2] - aim) ** 2).sum(-1) + EFFORT * ((volts - last) ** 2).sum(-1)
        last = volts
    return total


def search(seeds: range = range(128), smallest: float = 0.05) -> Gains:
    """Find gains that pay most on the same episodes: one at a time, by factors that shrink.

    It starts from the published settings, tries a factor up and down for each of the four numbers,
    keeps what pays more, and takes the root of the factor when nothing does.

    Args:
        seeds: the episodes that settings are judged by; compare policies on others.
        smallest: logarithm of the factor at which the search ends.

    Returns:
        The settings.
    """
    logs, step = np.log(np.ravel(PUBLISHED)), np.log(2.0)
    best = returns(_gains(logs), seeds).mean()
    while step >= smallest:
        improved = False
        for at in range(4):
            for change in (step, -step):
                tried = logs.copy()
                tried[at] += change
                if (paid := returns(_gains(tried), seeds).mean()) > best:
                    logs, best, improved = tried, paid, True
        if not improved:
            step /= 2
    return _gains(logs)


def _gains(logs: Float[np.ndarray, " 4"]) -> Gains:
    one, two, first, second = (float(value) for value in np.exp(logs))
    return Gains((one, two), (first, second))
