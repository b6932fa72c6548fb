"""What a run's task says of its observations and its clock, where the task can be had here."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any

import gymnasium
import numpy as np

from kanbatsu.deploy.contract import Contract

CLOCKS = ("dt", "tau")
"""Attributes in which environments of Gymnasium keep the seconds of a step."""


def contract_of_task(environment: Mapping[str, Any]) -> Contract:
    """Return what a task says, by building it; an empty contract where it cannot be built.

    Tasks of Gymnasium and of DeepMind Control, and plants, are asked; no code of the user's is run.

    Args:
        environment: what a run knew of it: `task`, `action_repeat`, `time`.

    Example:
        >>> contract_of_task({"task": "gym/Pendulum-v1", "action_repeat": 1}).control_period
        0.05
    """
    task = str(environment.get("task", ""))
    repeat = environment.get("action_repeat")
    readers = {"gym/": _of_gymnasium, "dmc/": _of_dm_control, "plant/": _of_plant}
    known = Contract()
    for prefix, reader in readers.items():
        if task.startswith(prefix):
            # Whatever is missing here is missing in the contract: the policy is whole without it.
            with contextlib.suppress(Exception):
                known = reader(task, int(repeat or 1))
    if environment.get("time"):
        names, low, high = known.observation_names, known.observation_low, known.observation_high
        known = dataclasses.replace(
            known,
            observation_names=None if names is None else (*names, "time"),
            observation_low=None if low is None else (*low, -0.5),
            observation_high=None if high is None else (*high, 0.5),
            observation_parts=None,
            observation_lengths=None,
        )
    return Contract(action_repeat=repeat).over(known)


def first_choice(environment: Mapping[str, Any]) -> int:
    """Return the number of a task's first action, of those that are choices; 0 if nobody says.

    Args:
        environment: as for `contract_of_task`.

    Example:
        >>> first_choice({"task": "gym/CartPole-v1"})
        0
    """
    task = str(environment.get("task", ""))
    if not (environment.get("discrete") and task.startswith("gym/")):
        return 0
    from kanbatsu.envs.gym import load

    with contextlib.suppress(Exception):  # a task that is not installed here
        actions = load(task).action_space
        return int(getattr(actions, "start", 0))
    return 0


def _of_gymnasium(task: str, repeat: int) -> Contract:
    from kanbatsu.envs.gym import load

    environment = load(task)
    try:
        return of_spaces(environment.observation_space, seconds_of(environment, repeat))
    finally:
        environment.close()


def _of_plant(task: str, repeat: int) -> Contract:
    from kanbatsu.envs import four_tank

    environment = four_tank.load(task)
    known = of_spaces(environment.observation_space, seconds_of(environment, repeat))
    names = Contract(
        observation_names=four_tank.NAMES,
        observation_units=four_tank.UNITS,
        action_names=four_tank.NAMES[-2:],
        action_units=four_tank.UNITS[-2:],
    )
    return names.over(known)


def seconds_of(environment: Any, repeat: int = 1) -> float | None:
    """Return the seconds from one action to the next of an environment of Gymnasium's.

    Example:
        >>> seconds_of(gymnasium.make("CartPole-v1"))
        0.02
    """
    inner = getattr(environment, "unwrapped", environment)
    for name in CLOCKS:
        value = getattr(inner, name, None)
        if isinstance(value, float | np.floating) and value > 0:
            return float(value) * repeat
    return None


def of_spaces(observations: gymnasium.Space, seconds: float | None) -> Contract:
    """Return what a space of observations says: ranges, and of a dictionary the names.

    Example:
        >>> cartpole = gymnasium.make("CartPole-v1")
        >>> round(float(of_spaces(cartpole.observation_space, None).observation_low[2]), 3)
        -0.419
    """
    spaces = observations.spaces if isinstance(observations, gymnasium.spaces.Dict) else None
    boxes: Any = {"": observations} if spaces is None else spaces
    low = np.concatenate([np.ravel(box.low) for box in boxes.values()]).astype(float)
    high = np.concatenate([np.ravel(box.high) for box in boxes.values()]).astype(float)
    sizes = {name: math.prod(box.shape) for name, box in boxes.items()}
    return Contract(
        observation_names=None if spaces is None else tuple(entries(sizes.items())),
        observation_parts=None if spaces is None else tuple(sizes),
        observation_lengths=None if spaces is None else tuple(sizes.values()),
        observation_low=tuple(low),
        observation_high=tuple(high),
        control_period=seconds,
    )


def entries(sizes: Iterable[tuple[str, int]]) -> list[str]:
    """Name the entries of arrays that are laid end to end.

    Example:
        >>> entries([("speed", 1), ("joints", 2)])
        ['speed', 'joints/0', 'joints/1']
    """
    return [
        name if size == 1 else f"{name}/{index}" for name, size in sizes for index in range(size)
    ]


def _of_dm_control(task: str, repeat: int) -> Contract:
    from kanbatsu.envs.dmc import DMCEnvironment

    environment = DMCEnvironment(task)._environment  # it names its observations, ours does not
    specs = environment.observation_spec()
    sizes = [(name, math.prod(spec.shape)) for name, spec in specs.items()]
    return Contract(
        observation_names=tuple(entries(sizes)),
        control_period=float(environment.control_timestep()) * repeat,
    )
