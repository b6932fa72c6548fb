"""The quadruple-tank process: four tanks, two pumps, and two levels that are to be held."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from jaxtyping import Float, Float32

from kanbatsu.envs.spec import unknown_task


@dataclass(frozen=True)
class Tanks:
    """Four tanks and two pumps: pump 1 fills tanks 1 and 4, pump 2 fills tanks 2 and 3.

    Tank 3 stands above tank 1 and tank 4 above tank 2; each drains into the one below. The defaults
    are the published constants, in the setting without a zero in the right half-plane.

    Source: Johansson 2000, "The Quadruple-Tank Process: A Multivariable Laboratory Process with an
    Adjustable Zero", IEEE Transactions on Control Systems Technology 8(3), tables I and II.
    """

    areas: tuple[float, ...] = (28.0, 32.0, 28.0, 32.0)
    """Cross-section of each tank, in cm^2."""
    outlets: tuple[float, ...] = (0.071, 0.057, 0.071, 0.057)
    """Cross-section of each tank's outlet, in cm^2."""
    pumps: tuple[float, float] = (3.33, 3.35)
    """Flow of each pump for each volt, in cm^3/(s V)."""
    valves: tuple[float, float] = (0.70, 0.60)
    """Share of each pump's flow that goes to the lower tank."""
    gravity: float = 981.0
    """Acceleration, in cm/s^2."""
    levels: tuple[float, ...] = (12.4, 12.7, 1.8, 1.4)
    """Published operating point of the four levels, in cm."""
    volts: tuple[float, float] = (3.0, 3.0)
    """Published operating point of the pumps, in V."""


class Course(NamedTuple):
    """Everything that chance decides in an episode."""

    wear: Float[np.ndarray, "*many 2"]
    """Factor of each pump's flow, which nobody measures."""
    targets: Float[np.ndarray, "*many targets 2"]
    """Levels of tanks 1 and 2 that are to be held, one after the other, in cm."""
    noise: Float[np.ndarray, "*many steps 4"]
    """Error of each measurement, in cm."""
    levels: Float[np.ndarray, "*many 4"]
    """Levels at the beginning, in cm."""


HEIGHT = 20.0
"""Height of each tank, in cm: what is more runs over."""
MOST_VOLTS = 10.0
SECONDS, SUBSTEPS = 5.0, 2
"""Seconds from one action to the next, and steps of the integration in them."""
STEPS, HOLD = 200, 50
"""Actions in an episode, and actions for which a target is held."""
NOISE, WEAR, SPREAD = 0.05, 0.10, 3.0
"""Deviation of a measurement in cm, largest share by which a pump wears or gains, and largest
distance of a target from the operating point in cm. Conventions of this task."""
EFFORT = 0.1
"""Cost of a change of one volt, beside that of one centimetre; both are squared."""


def inflow(tanks: Tanks) -> Float[np.ndarray, "2 4"]:
    """Return the flow into each tank for each volt of each pump, in cm^3/(s V)."""
    (one, two), (k, m) = tanks.valves, tanks.pumps
    return np.array([[one * k, 0.0, 0.0, (1 - one) * k], [0.0, two * m, (1 - two) * m, 0.0]])


def outflow(tanks: Tanks, levels: Float[np.ndarray, "*many 4"]) -> Float[np.ndarray, "*many 4"]:
    """Return the flow out of each tank by Torricelli's law, in cm^3/s."""
    speed: Any = np.sqrt(2.0 * tanks.gravity * np.maximum(levels, 0.0))
    return speed * np.array(tanks.outlets)


def steady(tanks: Tanks, volts: Float[np.ndarray, " 2"]) -> Float[np.ndarray, " 4"]:
    """Return the levels at which the tanks settle, in cm.

    Example:
        >>> tanks = Tanks()
        >>> steady(tanks, np.array(tanks.volts)).round(1).tolist()  # published: 12.4 to 1.4
        [12.3, 12.8, 1.6, 1.4]
    """
    into = volts @ inflow(tanks)
    through = into + np.array([into[2], into[3], 0.0, 0.0])
    return (through / np.array(tanks.outlets)) ** 2 / (2.0 * tanks.gravity)


def advance(
    tanks: Tanks,
    levels: Float[np.ndarray, "*many 4"],
    volts: Float[np.ndarray, "*many 2"],
    seconds: float = SECONDS,
    substeps: int = SUBSTEPS,
) -> Float[np.ndarray, "*many 4"]:
    """Hold the pumps' voltage for a while, by the classical Runge-Kutta method.

    Args:
        tanks: the process.
        levels: of the four tanks, in cm.
        volts: of the two pumps.
        seconds: for which the voltage is held.
        substeps: steps of the integration.

    Returns:
        The levels afterwards, between 0 and `HEIGHT`.

    Example:
        >>> advance(Tanks(), np.zeros(4), np.array([0.0, 0.0])).tolist()
        [0.0, 0.0, 0.0, 0.0]
    """
    into = volts @ inflow(tanks)
    areas, step = np.array(tanks.areas), seconds / substeps

    def rates(at: Any) -> Any:
        out = outflow(tanks, at)
        change = into - out
        change[..., :2] += out[..., 2:]
        return change / areas

    for _ in range(substeps):
        first = rates(levels)
        second = rates(levels + step / 2 * first)
        third = rates(levels + step / 2 * second)
        fourth = rates(levels + step * third)
        levels = levels + step / 6 * (first + 2 * second + 2 * third + fourth)
        levels = np.minimum(np.maximum(levels, 0.0), HEIGHT)
    return levels


def draw_course(tanks: Tanks, generator: np.random.Generator) -> Course:
    """Draw an episode: wear, targets, errors of measurement, and where it begins."""
    wear = generator.uniform(1.0 - WEAR, 1.0 + WEAR, 2)
    targets = np.array(tanks.levels[:2]) + generator.uniform(-SPREAD, SPREAD, (STEPS // HOLD, 2))
    noise = generator.normal(0.0, NOISE, (STEPS + 1, 4))
    levels = steady(tanks, np.array(tanks.volts)) * generator.uniform(0.8, 1.2, 4)
    return Course(wear, targets, noise, levels)


class FourTank(gymnasium.Env):
    """Hold the levels of the two lower tanks at targets that change, with two pumps.

    An action is the voltage of both pumps, held for five seconds. The observation is the four
    levels as they are measured, the two targets, and the last two voltages. The reward is the
    negative squared distance of the lower levels from their targets, in cm^2, less a tenth of the
    squared change of the voltages, in V^2. The pumps' wear is drawn for every episode and not
    observed. `info` reports `error_cm`, the mean distance, and `overflow`, whether a tank ran over.

    Args:
        tanks: the process.

    Example:
        >>> environment = FourTank()
        >>> obs, _ = environment.reset(seed=0)
        >>> obs.shape, environment.step(np.array([3.0, 3.0]))[1] < 0.0
        ((8,), True)

    Source: Johansson 2000, "The Quadruple-Tank Process"; targets, noise, wear and costs are this
    task's own.
    """

    observation_space = gymnasium.spaces.Box(
        0.0,
        np.array([HEIGHT + 1.0] * 4 + [HEIGHT] * 2 + [MOST_VOLTS] * 2, np.float32),
        (8,),
        np.float32,
    )
    action_space = gymnasium.spaces.Box(0.0, MOST_VOLTS, (2,), np.float32)
    dt = SECONDS
    """Seconds from one action to the next."""

    def __init__(self, tanks: Tanks | None = None) -> None:
        self.tanks = tanks or Tanks()
        self._steps = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Float32[np.ndarray, " 8"], dict[str, Any]]:
        """Draw the whole episode; the seed alone decides it."""
        super().reset(seed=seed)
        self._course = draw_course(self.tanks, self.np_random)
        self._steps = 0
        self.levels = self._course.levels
        """Levels of the four tanks, in cm."""
        self._volts = np.array(self.tanks.volts)
        return self._observe(), {}

    def step(
        self, action: Float[np.ndarray, " 2"]
    ) -> tuple[Float32[np.ndarray, " 8"], float, bool, bool, dict[str, Any]]:
        """Hold two voltages for five seconds."""
        volts = np.minimum(np.maximum(np.asarray(action, np.float64), 0.0), MOST_VOLTS)
        self.levels = advance(self.tanks, self.levels, self._course.wear * volts)
        error = self.levels[:2] - self._target()
        distance, change = float(error @ error), volts - self._volts
        self._steps, self._volts = self._steps + 1, volts
        over = bool((self.levels >= HEIGHT).any())
        info = {"error_cm": float(np.abs(error).mean()), "overflow": over}
        reward = -distance - EFFORT * float(change @ change)
        return self._observe(), reward, False, self._steps >= STEPS, info

    def gauges(self) -> dict[str, dict[str, float]]:
        """Return the numbers of a chart at this moment, by panel and name."""
        aim = self._target()
        return {
            f"tank {at + 1}, cm": {"level": float(self.levels[at]), "target": float(aim[at])}
            for at in (0, 1)
        } | {"pumps, V": {f"pump {at + 1}": float(self._volts[at]) for at in (0, 1)}}

    def _target(self) -> Float[np.ndarray, " 2"]:
        return target(self._course, self._steps)

    def _observe(self) -> Float32[np.ndarray, " 8"]:
        measured = np.maximum(self.levels + self._course.noise[self._steps], 0.0)
        return np.concatenate([measured, self._target(), self._volts]).astype(np.float32)


def target(course: Course, steps: int) -> Float[np.ndarray, "*many 2"]:
    """Return the targets of the next action after so many; the last one stays."""
    return course.targets[..., min(steps // HOLD, STEPS // HOLD - 1), :]


TASKS = {"plant/four-tank": Tanks()}
"""The tasks by name."""
NAMES = (
    *(f"level_{number}" for number in (1, 2, 3, 4)),
    *(f"target_{number}" for number in (1, 2)),
    *(f"voltage_{number}" for number in (1, 2)),
)
UNITS = (*["cm"] * 6, *["V"] * 2)
"""Names and units of an observation's entries."""


def load(task: str) -> gymnasium.Env:
    """Build the plant that `plant/<name>` names, with its time limit.

    Raises:
        TaskError: no such name.
    """
    if task not in TASKS:
        raise unknown_task(task, TASKS)
    return gymnasium.wrappers.TimeLimit(FourTank(TASKS[task]), STEPS)


def time_constants(tanks: Tanks) -> Float[np.ndarray, " 4"]:
    """Return the time constant of each tank around the published operating point, in seconds.

    Example:
        >>> time_constants(Tanks()).round().tolist()  # published: 62, 90, 23, 30
        [63.0, 90.0, 24.0, 30.0]
    """
    roots: Any = [math.sqrt(2.0 * level / tanks.gravity) for level in tanks.levels]
    return np.array(tanks.areas) / np.array(tanks.outlets) * np.array(roots)
