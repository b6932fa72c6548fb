"""What an environment is: one simulator, one episode at a time, arrays in and out."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Num

from kanbatsu.spec import Spec

NO_OWN_CODE = "KANBATSU_NO_OWN_CODE"
"""Variable that, where it is set, forbids what imports and runs modules by name."""


class TaskError(ValueError):
    """A task that cannot be trained on; the message says why and what to do about it."""


class Timestep(NamedTuple):
    """Outcome of one interaction.

    `terminated` means that the world ended; `truncated` that the episode was cut off, by a time
    limit say. `success` is None where the environment does not report it.
    """

    obs: Num[np.ndarray, "*obs"]
    reward: float
    terminated: bool
    truncated: bool
    success: bool | None = None
    info: Mapping[str, Any] = MappingProxyType({})
    """Whatever else the environment reports of this step; scalars of it may be measures."""


@runtime_checkable
class Environment(Protocol):
    """One simulator behind observations as its spec says and actions in [-1, 1].

    An episode is a pure function of its seed and its actions: nothing leaks from the episode
    before. That is what makes an interrupted run end like an uninterrupted one.
    """

    @property
    def spec(self) -> Spec:
        """Shapes of observation and action, and the time limit in interactions."""
        ...

    @property
    def action_repeat(self) -> int:
        """Env steps per interaction; the last of an episode may take fewer."""
        ...

    def reset(self, seed: int) -> Num[np.ndarray, "*obs"]:
        """Start the episode that belongs to `seed` (32 bits) and return its first observation."""
        ...

    def step(self, action: Float[np.ndarray, " action_dim"]) -> Timestep:
        """Act once; after the end of an episode, `reset` comes first.

        Args:
            action: in [-1, 1], whatever the simulator's own bounds are.

        Returns:
            The successor, and the rewards of the repeated env steps added up.
        """
        ...

    def close(self) -> None:
        """Let go of the simulator."""
        ...


def rescale(
    action: Float[np.ndarray, " action_dim"],
    low: Float[np.ndarray, " action_dim"],
    high: Float[np.ndarray, " action_dim"],
) -> Float[np.ndarray, " action_dim"]:
    """Map an action from [-1, 1] to the simulator's bounds, and never past them.

    Args:
        action: in [-1, 1].
        low: lowest value of each entry.
        high: highest value of each entry.

    Returns:
        The action between `low` and `high`; where these are -1 and 1, bit for bit the same.

    Example:
        >>> low, high = np.array([0.0, -1.0]), np.array([10.0, 1.0])
        >>> rescale(np.array([-0.5, 0.25]), low, high).tolist()
        [2.5, 0.25]
    """
    scaled = (low + high) / 2 + (high - low) / 2 * action
    # Rounding may carry the centre plus the half width past a bound by one bit.
    return np.minimum(np.maximum(scaled, low), high)


def bounds(low: Any, high: Any) -> dict[str, Any]:
    """Return the fields of a spec that say what its actuators can do.

    Example:
        >>> bounds(np.array([[-2.0]]), 2)
        {'low': (-2.0,), 'high': (2.0,)}
    """
    return {
        name: tuple(map(float, np.ravel(value))) for name, value in (("low", low), ("high", high))
    }


def refuse_own_code(name: str) -> None:
    """Refuse code that a name imports, where that is forbidden.

    Args:
        name: `package.module:factory`, or `gym/<module>:<id>`.

    Raises:
        TaskError: It is forbidden.
    """
    if os.environ.get(NO_OWN_CODE):
        raise TaskError(
            f"{name} imports {name.removeprefix('gym/').partition(':')[0]} and runs what stands in "
            "it, which --no-own-code forbids. Read it, and leave the option out if you trust it."
        )


def unknown_task(task: str, known: Iterable[str], reason: str = "") -> TaskError:
    """Build the error for a name that does not exist, with the names that come closest.

    Args:
        task: what the user asked for.
        known: every name that there is.
        reason: what else is known about the failure.

    Returns:
        The error, ready to raise.

    Example:
        >>> unknown_task("dmc/walker-wlak", ["dmc/walker-walk", "dmc/dog-run"])
        TaskError("Unknown task 'dmc/walker-wlak'. Did you mean 'dmc/walker-walk'?")
    """
    close = difflib.get_close_matches(task, known, n=3, cutoff=0.6)
    hint = (
        f"Did you mean {' or '.join(map(repr, close))}?"
        if close
        else "Tasks are written dmc/<domain>-<task>, gym/<id> or package.module:factory."
    )
    return TaskError(" ".join(filter(None, [f"Unknown task {task!r}.", reason, hint])))


def missing_library(task: str, library: str, error: ImportError) -> TaskError:
    """Build the error for a library that an extra of kanbatsu installs."""
    return TaskError(
        f"{task} needs {library}, which cannot be loaded ({error}): "
        f"pip install 'kanbatsu[{library}]'"
    )


def refuse_images(task: str) -> TaskError:
    """Build the error for images that an agent for vectors would be shown.

    Example:
        >>> print(refuse_images("dmc-pixels/walker-walk"))
        dmc-pixels/walker-walk shows images, and this agent reads vectors. Use an agent for \
images, such as drqv2, or the task's own observations, where it has them: dmc/walker-walk.
    """
    own = task.replace("dmc-pixels/", "dmc/") if task.startswith("dmc-pixels/") else ""
    other = f", or the task's own observations, where it has them: {own}" if own else ""
    return TaskError(
        f"{task} shows images, and this agent reads vectors. Use an agent for images, such as "
        f"drqv2{other}."
    )


def refuse_actions(task: str, discrete: bool, space: object = "") -> TaskError:
    """Build the error for actions that are of the other kind than the agent's.

    Args:
        task: name of the task.
        discrete: whether its actions are discrete.
        space: what the actions are, where more is known.

    Example:
        >>> print(refuse_actions("dmc/dog-run", discrete=False))
        dmc/dog-run has continuous actions, and this agent chooses among a few. Use an agent for \
continuous actions, such as sac or stream_ac.
    """
    of = f" ({space})" if space else ""
    if discrete:
        return TaskError(
            f"{task} has discrete actions{of}, and this agent needs continuous ones. Use an agent "
            "for discrete actions, such as pqn or stream_q."
        )
    return TaskError(
        f"{task} has continuous actions{of}, and this agent chooses among a few. Use an agent for "
        "continuous actions, such as sac or stream_ac."
    )
