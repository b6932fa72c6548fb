"""Environments of gymnax, MinAtar among them, as pure JAX functions with flat observations."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from kanbatsu.envs.functional import FunctionalStep
from kanbatsu.envs.spec import TaskError, unknown_task
from kanbatsu.types import Key, Spec


@dataclass(frozen=True)
class GymnaxEnvironment:
    """One environment of gymnax; an image is laid out as one long vector, unless it is asked for.

    Example:
        >>> GymnaxEnvironment("Breakout-MinAtar").spec
        Spec(obs_shape=(400,), action_dim=3, episode_length=1000)

    Reference:
        Lange 2022, "gymnax: A JAX-based Reinforcement Learning Environment Library"; Young and Tian
        2019, "MinAtar", arXiv 1903.03176.
    """

    name: str
    """As gymnax names it, for instance `Breakout-MinAtar`."""
    images: bool = False
    """Whether images stay images: uint8 `[height, width, channels]`, 255 where a plane is 1."""

    @property
    def spec(self) -> Spec:
        """Sizes of observation and action, and the time limit."""
        loaded = _loaded(self.name)
        if self.images and len(loaded.shape) == 3:
            return replace(loaded.spec, obs_shape=loaded.shape, obs_dtype="uint8")
        return loaded.spec

    def reset(self, key: Key) -> tuple[Any, Num[Array, "*obs"]]:
        """Begin an episode."""
        simulator, params, *_ = _loaded(self.name)
        with _as_written():
            obs, state = simulator.reset_env(key, params)
            return state, self._seen(obs)

    def step(
        self, state: Any, action: Float[Array, " action_dim"], key: Key
    ) -> tuple[Any, FunctionalStep]:
        """Take one decision; a continuous action in [-1, 1] is scaled to the bounds."""
        simulator, params, *_, bounds = _loaded(self.name)
        if bounds is None:
            move: Any = jnp.argmax(action).astype(jnp.int32)
        else:
            low, high = bounds
            move = low + (high - low) * (jnp.clip(action, -1.0, 1.0) + 1.0) / 2.0
        with _as_written():
            obs, new, reward, terminated, _ = simulator.step_env(key, state, move, params)
            # A state keeps its types, which `scan` asks for and not every simulator does.
            new = jax.tree.map(lambda x, like: jnp.asarray(x, jnp.result_type(like)), new, state)
            ended = jnp.asarray(terminated, bool)
            truncated = ~ended & jnp.asarray(simulator.is_truncated(new, params), bool)
        return new, FunctionalStep(self._seen(obs), jnp.float32(reward), ended, truncated)

    def _seen(self, obs: Array) -> Num[Array, "*obs"]:
        """Return an observation as `spec` says."""
        if self.spec.obs_dtype == "uint8":
            return (255.0 * obs.astype(jnp.float32)).astype(jnp.uint8)
        return jnp.ravel(obs).astype(jnp.float32)


def load(task: str, *, images: bool = False) -> GymnaxEnvironment:
    """Build the environment that `gymnax/<name>` names; with `images`, its images stay images.

    Raises:
        TaskError: gymnax is not installed, or it has no such environment, or its observations or
            actions are none that agents here can use.
    """
    try:
        from gymnax import registration
    except ImportError as error:
        raise TaskError(
            f"{task} needs gymnax, which cannot be loaded ({error}): pip install 'kanbatsu[gymnax]'"
        ) from error
    name = task.removeprefix("gymnax/")
    if name not in registration.registered_envs:
        raise unknown_task(task, [f"gymnax/{each}" for each in registration.registered_envs])
    _loaded(name)  # refuses what cannot be used
    return GymnaxEnvironment(name, images)


def _as_written() -> AbstractContextManager[Any]:
    """Let gymnax mix types as JAX does by default, whatever this program is stricter about."""
    return jax.numpy_dtype_promotion("standard")


class _Loaded(NamedTuple):
    """A simulator, its parameters, and what they amount to."""

    simulator: Any
    params: Any
    spec: Spec
    shape: tuple[int, ...]
    """Shape of an observation as gymnax has it."""
    bounds: tuple[np.ndarray, np.ndarray] | None
    """Lowest and highest value of each entry of an action; None where actions are discrete."""


@lru_cache(maxsize=32)
def _loaded(name: str) -> _Loaded:
    """Build a simulator of gymnax once, and read off what it is."""
    import gymnax
    from gymnax.environments import spaces

    simulator, params = gymnax.make(name)
    seen, moves = simulator.observation_space(params), simulator.action_space(params)
    if not isinstance(seen, spaces.Box) or not isinstance(moves, spaces.Box | spaces.Discrete):
        raise TaskError(
            f"gymnax/{name} has observations or actions that are no box or choice ({seen}, {moves})"
        )
    discrete = isinstance(moves, spaces.Discrete)
    bounds = None
    if not discrete:
        low, high = (np.broadcast_to(x, moves.shape).ravel() for x in (moves.low, moves.high))
        bounds = low, high
    size = int(moves.n) if discrete else math.prod(moves.shape)
    limit = int(params.max_steps_in_episode)
    spec = Spec((math.prod(seen.shape),), size, limit, discrete=discrete)
    return _Loaded(simulator, params, spec, tuple(seen.shape), bounds)
