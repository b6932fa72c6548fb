"""Incumbents: the rule that is in use today, by its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kanbatsu.envs.own import Premises, call, described
from kanbatsu.envs.spec import TaskError, refuse_own_code


class Incumbent:
    """A rule that is in use today, as a function of an observation; its code stays on its premises.

    Args:
        name: what error messages call it.
        policy: function of an observation, `[obs_dim]`, to an action in the actuators' units. Where
            it has a method `reset`, that is called when an episode begins.
        premises: surroundings of its code.

    Example:
        >>> incumbent = Incumbent("half", lambda obs: 0.5 * obs, Premises("half"))
        >>> incumbent.reset()
        >>> incumbent(4.0)
        2.0
    """

    def __init__(self, name: str, policy: Callable[[Any], Any], premises: Premises) -> None:
        self.name = name
        """Name of the rule, as the user gave it."""
        self._policy, self._premises = policy, premises

    def reset(self) -> None:
        """Tell the rule that an episode begins, where it has a method for that."""
        if hasattr(self._policy, "reset"):
            with self._premises.entered():
                self._policy.reset()

    def __call__(self, obs: Any) -> Any:
        """Return its action.

        Raises:
            TaskError: Its code fails.
        """
        try:
            with self._premises.entered():
                return self._policy(obs)
        except Exception as error:
            raise TaskError(f"{self.name} fails: {described(error)}") from error


def load_incumbent(name: str) -> Incumbent:
    """Return the rule that `package.module:factory` names.

    Args:
        name: `factory()` takes no arguments and returns a function of an observation, a new one at
            every call. The module is looked for in the current folder too.

    Raises:
        TaskError: There is no such module or factory, its code fails, it returns something else, or
            code of users is forbidden.

    Example:
        >>> import numpy as np
        >>> load_incumbent("kanbatsu.envs.base_stock:serial")(np.zeros(9)).shape
        (4,)
    """
    if not all(name.partition(":")):
        raise TaskError(
            f"{name!r} is no policy: write package.module:factory, where factory() returns a "
            "function of an observation, such as kanbatsu.envs.base_stock:seasonal"
        )
    refuse_own_code(name)
    premises = Premises(name)
    policy = call(name, premises)
    if not callable(policy):
        raise TaskError(
            f"{name} returned {type(policy).__name__}: the factory must return a function of an "
            "observation"
        )
    return Incumbent(name, policy, premises)
