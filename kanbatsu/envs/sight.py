"""What can be seen of an environment: the simulator under its wrappers, and its instruments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium

from kanbatsu.envs.dmc import DMCEnvironment
from kanbatsu.envs.functional import HostedEnvironment
from kanbatsu.envs.gym import GymEnvironment
from kanbatsu.envs.own import OwnEnvironment
from kanbatsu.envs.pixels import PixelEnvironment
from kanbatsu.envs.residual import ResidualEnvironment
from kanbatsu.envs.spec import Environment
from kanbatsu.envs.timed import TimedEnvironment, TimedFunctional

Gauges = Mapping[str, Mapping[str, float]]
"""Numbers of a chart at one moment: by the title of a panel, then by name."""


def simulator_of(environment: Environment) -> Any:
    """Return what an environment simulates with, without the wrappers around it.

    Returns:
        A `gymnasium.Env`, with its own wrappers; or a kanbatsu `Environment` that nothing is
        wrapped around.

    Example:
        >>> from kanbatsu.envs.make import make
        >>> type(simulator_of(make("plant/four-tank")).unwrapped).__name__
        'FourTank'
    """
    inner: Any = environment
    while True:
        if isinstance(inner, TimedEnvironment):
            inner = inner.environment
        elif isinstance(inner, OwnEnvironment | ResidualEnvironment):
            inner = inner._environment
        else:
            break
    return inner._environment if isinstance(inner, GymEnvironment) else inner


def simulation_of(environment: Environment) -> DMCEnvironment | None:
    """Return the task of dm_control that an environment is; None of any other task."""
    simulator = simulator_of(environment)
    if isinstance(simulator, PixelEnvironment):
        simulator = simulator._inner
    return simulator if isinstance(simulator, DMCEnvironment) else None


def gauges_of(environment: Environment) -> Callable[[], Gauges] | None:
    """Return what reads the instruments of an environment; None where it has none.

    An environment has instruments where it has a method `gauges()`, a functional one where it has
    `gauges(state)`: both return the numbers of a chart at this moment.

    Example:
        >>> from kanbatsu.envs.make import make
        >>> environment = make("inventory/serial")
        >>> _ = environment.reset(seed=0)
        >>> gauges_of(environment)()["customers"]["owed"]
        0.0
    """
    simulator = simulator_of(environment)
    if isinstance(simulator, HostedEnvironment):
        return _gauges_of_functional(simulator)
    bare = simulator.unwrapped if isinstance(simulator, gymnasium.Env) else simulator
    gauges: Callable[[], Gauges] | None = getattr(bare, "gauges", None)
    return gauges


def _gauges_of_functional(hosted: HostedEnvironment) -> Callable[[], Gauges] | None:
    functional: Any = hosted.functional
    timed = isinstance(functional, TimedFunctional)
    inner = functional.functional if timed else functional
    if not hasattr(inner, "gauges"):
        return None

    def gauges() -> Gauges:
        state: Any = hosted._state
        read: Gauges = inner.gauges(state[0] if timed else state)
        return read

    return gauges
