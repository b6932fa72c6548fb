"""Residual: an agent that corrects an incumbent's action, within a bound."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
from jaxtyping import Float, Num

from kanbatsu.envs.correction import corrected
from kanbatsu.envs.incumbent import load_incumbent
from kanbatsu.envs.spec import Environment, TaskError, Timestep, bounds, rescale
from kanbatsu.envs.timed import TimedEnvironment
from kanbatsu.ranges import Above, Within


@dataclass(frozen=True)
class ResidualConfig:
    """An agent that corrects a rule instead of replacing it: its action is added to the rule's.

    Example:
        >>> ResidualConfig("kanbatsu.envs.base_stock:seasonal", share=0.1).share
        0.1
    """

    policy: str
    """Rule that is corrected: package.module:factory, which returns a function of an observation to
    an action in the actuators' units."""
    share: Annotated[float, Above(0), Within(0.0, 1.0)] = 0.2
    """Largest correction of each entry of an action, as a share of its actuator's range."""


class ResidualEnvironment:
    """A task in which the action is the incumbent's plus the agent's bounded correction.

    The agent acts in [-1, 1], which stands for a correction of -bound to bound, in the actuators'
    units; the sum is kept inside the actuators' bounds. Its spec says that the actuators go from
    -bound to bound, so a policy that `kanbatsu.deploy.export` writes answers with the correction
    itself: what a rollout with `residual = true` adds to the incumbent's action.

    Args:
        environment: the task, with known bounds of its actuators; this object owns it from now on.
        incumbent: function of an observation to an action in the actuators' units, `[action_dim]`.
            Where it has a method `reset`, that is called when an episode begins.
        bound: largest correction of each entry, in the actuators' units; one number for all.
        name: words for the incumbent in messages.

    Raises:
        TaskError: The bounds of the actuators are not known, or `bound` does not fit them.

    Example:
        >>> from kanbatsu.envs.base_stock import policy
        >>> from kanbatsu.envs.inventory import load
        >>> task = "inventory/serial"
        >>> environment = ResidualEnvironment(load(task), policy(task), bound=0.2)
        >>> environment.spec.high
        (0.2, 0.2, 0.2, 0.2)
        >>> environment.reset(seed=0).shape, environment.step(np.zeros(4)).reward < 0
        ((17,), True)

    Source: Johannink et al. 2019, "Residual Reinforcement Learning for Robot Control"; Silver et
    al. 2018, "Residual Policy Learning". The bound is this one's own: it says beforehand what the
    worst is that a policy can do.
    """

    def __init__(
        self,
        environment: Environment,
        incumbent: Callable[[Any], Any],
        bound: float | Sequence[float] | np.ndarray,
        name: str = "the incumbent",
    ) -> None:
        spec = environment.spec
        if spec.discrete or spec.low is None or spec.high is None:
            raise TaskError(
                "a correction needs continuous actions with known bounds: let the environment's "
                "spec name low and high, or wrap a Gymnasium environment with "
                "kanbatsu.envs.gym.GymEnvironment, which takes them from its action space"
            )
        self._low, self._high = np.array(spec.low), np.array(spec.high)
        self._bound = np.array(bound, np.float64) * np.ones(1)
        if self._bound.size == 1:
            self._bound = np.full(spec.action_dim, self._bound[0])
        if self._bound.shape != self._low.shape or not (self._bound > 0.0).all():
            raise TaskError(
                f"the bound of a correction must be positive, one number or {spec.action_dim}: got "
                f"{bound}"
            )
        self._environment, self._incumbent, self._name = environment, incumbent, name
        self._obs: Any = None
        self.spec = replace(spec, **bounds(-self._bound, self._bound))
        self.action_repeat = environment.action_repeat

    def reset(self, seed: int) -> Num[np.ndarray, "*obs"]:
        """Start the episode that belongs to `seed`, for the incumbent too."""
        self._obs = self._environment.reset(seed)
        if hasattr(self._incumbent, "reset"):
            self._incumbent.reset()
        return self._obs

    def step(self, action: Float[np.ndarray, " action_dim"]) -> Timestep:
        """Correct the incumbent's action, and act."""
        base = np.asarray(self._incumbent(self._obs), np.float64)
        if base.shape != self._low.shape or not np.isfinite(base).all():
            what = base.tolist() if base.shape == self._low.shape else f"shape {list(base.shape)}"
            raise TaskError(
                f"{self._name} answered with {what}, and an action of this task is finite numbers "
                f"of shape {list(self._low.shape)}"
            )
        correction = rescale(np.asarray(action, np.float64), -self._bound, self._bound)
        taken = corrected(base, correction, self._bound, self._low, self._high)
        timestep = self._environment.step(unscale(taken, self._low, self._high))
        self._obs = timestep.obs
        return timestep

    def close(self) -> None:
        """Let go of the simulator."""
        self._environment.close()

    def record(self) -> dict[str, list[float]]:
        """Return what whoever serves the policy must know: bounds of correction and actuators."""
        numbers = {"correction": self._bound, "low": self._low, "high": self._high}
        return {name: values.tolist() for name, values in numbers.items()}


def correct(environment: Environment, residual: ResidualConfig, task: str) -> ResidualEnvironment:
    """Return a task in which the agent corrects a rule.

    A functional environment is stepped from the host, as the rule is Python.

    Args:
        environment: the task; the returned object owns it.
        residual: the rule, and the bound of the correction.
        task: name of the task in messages.

    Raises:
        TaskError: Its actions cannot be corrected, or the rule cannot be had.

    Example:
        >>> from kanbatsu.envs.make import make
        >>> task = "inventory/serial"
        >>> residual = ResidualConfig("kanbatsu.envs.base_stock:serial", share=0.1)
        >>> correct(make(task), residual, task).record()["correction"]  # orders go from 0 to 2
        [0.2, 0.2, 0.2, 0.2]
    """
    spec = environment.spec
    if spec.discrete or spec.low is None or spec.high is None:
        lack = (
            "chooses among a few actions" if spec.discrete else "does not say its actions' bounds"
        )
        raise TaskError(
            f"{task} {lack}, and residual corrects actions between bounds: remove it, or choose a "
            "task with continuous actions and an agent for them, such as sac"
        )
    bound = residual.share * (np.array(spec.high) - np.array(spec.low))
    rule = load_incumbent(residual.policy)
    return ResidualEnvironment(environment, rule, bound, name=f"residual.policy {rule.name}")


def unscale(
    action: Float[np.ndarray, " action_dim"],
    low: Float[np.ndarray, " action_dim"],
    high: Float[np.ndarray, " action_dim"],
) -> Float[np.ndarray, " action_dim"]:
    """Map an action from the simulator's bounds to [-1, 1]: the reverse of `rescale`.

    Example:
        >>> unscale(np.array([2.5]), np.array([0.0]), np.array([10.0])).tolist()
        [-0.5]
    """
    return np.clip((2.0 * action - low - high) / (high - low), -1.0, 1.0)


def residual_of(environment: Environment) -> ResidualEnvironment | None:
    """Return what corrects a rule in an environment; None where nothing does."""
    inner = environment.environment if isinstance(environment, TimedEnvironment) else environment
    return inner if isinstance(inner, ResidualEnvironment) else None
