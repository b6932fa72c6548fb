"""Time as part of the observation: -0.5 when an episode begins, 0.5 when its limit is reached."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32

from kanbatsu.envs.functional import (
    FunctionalEnvironment,
    FunctionalStep,
    HostedEnvironment,
    functional_of,
)
from kanbatsu.envs.spec import Environment, TaskError, Timestep
from kanbatsu.types import Key, Spec


class TimedEnvironment:
    """Appends the time to every observation.

    Args:
        environment: with a time limit.

    Raises:
        TaskError: there is no time limit.

    Example:
        >>> from kanbatsu.envs.make import make
        >>> environment = TimedEnvironment(make("gym/Pendulum-v1"))
        >>> float(environment.reset(seed=0)[-1]), float(environment.step(np.zeros(1)).obs[-1])
        (-0.5, -0.4950000047683716)
    """

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        """The environment without the time."""
        self._interactions = 0
        self._limit = _limit(environment.spec)
        self.spec, self.action_repeat = _longer(environment.spec), environment.action_repeat

    def reset(self, seed: int) -> Float32[np.ndarray, " obs_dim"]:
        """Start an episode."""
        self._interactions = 0
        return self._append(self.environment.reset(seed))

    def step(self, action: Float[np.ndarray, " action_dim"]) -> Timestep:
        """Act once."""
        self._interactions += 1
        timestep = self.environment.step(action)
        return Timestep(self._append(timestep.obs), *timestep[1:])

    def close(self) -> None:
        """Let go of the simulator."""
        self.environment.close()

    def _append(self, obs: np.ndarray) -> Float32[np.ndarray, " obs_dim"]:
        # np.append and _replace would take as long as many a simulator's step.
        longer = np.empty(len(obs) + 1, np.float32)
        longer[:-1], longer[-1] = obs, self._interactions / self._limit - 0.5
        return longer


@dataclass(frozen=True)
class TimedFunctional:
    """The same for a functional environment; its state is the simulator's and a count.

    Example:
        >>> import jax
        >>> from kanbatsu.envs.classic import CartPole
        >>> _, obs = TimedFunctional(CartPole()).reset(jax.random.key(0))
        >>> float(obs[-1])
        -0.5
    """

    functional: FunctionalEnvironment
    """With a time limit."""

    def __post_init__(self) -> None:
        _limit(self.functional.spec)  # refuses what has none

    @property
    def spec(self) -> Spec:
        """The simulator's, with one more entry in the observation."""
        return _longer(self.functional.spec)

    def reset(self, key: Key) -> tuple[Any, Float[Array, " obs_dim"]]:
        """Begin an episode."""
        state, obs = self.functional.reset(key)
        return (state, jnp.int32(0)), self._append(obs, jnp.int32(0))

    def step(
        self, state: Any, action: Float[Array, " action_dim"], key: Key
    ) -> tuple[Any, FunctionalStep]:
        """Act once."""
        inner, interactions = state[0], state[1] + 1
        inner, step = self.functional.step(inner, action, key)
        return (inner, interactions), step._replace(obs=self._append(step.obs, interactions))

    def _append(self, obs: Array, interactions: Array) -> Float[Array, " obs_dim"]:
        share = interactions.astype(jnp.float32) / _limit(self.functional.spec)
        return jnp.append(obs, share - 0.5)


def add_time(environment: Environment) -> Environment:
    """Append the time, on the host or inside a compiled program.

    Raises:
        TaskError: there is no time limit.
    """
    functional = functional_of(environment)
    if functional is None:
        return TimedEnvironment(environment)
    return HostedEnvironment(TimedFunctional(functional))


def _longer(spec: Spec) -> Spec:
    return replace(spec, obs_shape=(spec.obs_dim + 1,))


def _limit(spec: Spec) -> int:
    if spec.episode_length is None:
        raise TaskError(
            "this task has no time limit, so its time cannot be part of the observation: "
            "set time = false (--no-time)"
        )
    return spec.episode_length
