"""Environments that are pure JAX functions: whole runs compile into one program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Num

from kanbatsu.envs.spec import Environment, Timestep
from kanbatsu.types import Key, Spec


class FunctionalStep(NamedTuple):
    """Outcome of one interaction; `obs` is the true successor."""

    obs: Num[Array, "*obs"]
    reward: Float[Array, ""]
    terminated: Bool[Array, ""]
    truncated: Bool[Array, ""]


@runtime_checkable
class FunctionalEnvironment(Protocol):
    """One simulator as two functions of its state; each interaction is one env step.

    A new episode begins only where the caller resets. Where actions are discrete they come one-hot,
    and `spec.action_dim` is their number. Compiled programs are kept by environment, so equal ones
    should compare equal and hash alike, as frozen dataclasses do.
    """

    @property
    def spec(self) -> Spec:
        """Sizes of observation and action, and the time limit in interactions."""
        ...

    def reset(self, key: Key) -> tuple[Any, Num[Array, "*obs"]]:
        """Begin an episode: the simulator's state, and the first observation."""
        ...

    def step(
        self, state: Any, action: Float[Array, " action_dim"], key: Key
    ) -> tuple[Any, FunctionalStep]:
        """Act once."""
        ...


class Simulator(NamedTuple):
    """An environment of a library as two functions; `LibraryEnvironment` mends types and shapes."""

    spec: Spec
    reset: Callable[[Key], tuple[Any, Array]]
    """State and observation from a key."""
    step: Callable[[Any, Array, Key], tuple[Any, Array, Any, Any, Any]]
    """State, observation, reward, end and cut-off, from a state, an action and a key."""
    image: tuple[int, ...] = ()
    """Height, width and channels of observations that are images; empty where they are none."""


class HostedEnvironment:
    """A functional environment behind the interface of all others, for evaluation say.

    Args:
        functional: pure functions.

    Example:
        >>> from kanbatsu.envs.classic import CartPole
        >>> environment = HostedEnvironment(CartPole())
        >>> _ = environment.reset(seed=0)
        >>> environment.step(np.array([0.0, 1.0])).reward
        1.0
    """

    def __init__(self, functional: FunctionalEnvironment) -> None:
        self.functional = functional
        self.spec, self.action_repeat = functional.spec, 1
        self._reset, self._step = jax.jit(functional.reset), jax.jit(functional.step)
        self._key, self._state = jax.random.key(0), None

    def reset(self, seed: int) -> Num[np.ndarray, "*obs"]:
        """Start the episode that belongs to `seed` and return its first observation."""
        self._key, key = jax.random.split(jax.random.key(seed))
        self._state, obs = self._reset(key)
        return np.asarray(obs)

    def step(self, action: Float[np.ndarray, " action_dim"]) -> Timestep:
        """Act once."""
        self._key, key = jax.random.split(self._key)
        self._state, step = self._step(self._state, np.asarray(action, np.float32), key)
        return Timestep(
            np.asarray(step.obs), float(step.reward), bool(step.terminated), bool(step.truncated)
        )

    def close(self) -> None:
        """Nothing to let go of."""


def functional_of(environment: Environment) -> FunctionalEnvironment | None:
    """Return the pure functions behind an environment; None where it is a simulator on the host."""
    return environment.functional if isinstance(environment, HostedEnvironment) else None
