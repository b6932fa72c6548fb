"""Environments of Brax and of MuJoCo Playground, which share an interface, as pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from kanbatsu.envs.functional import Simulator
from kanbatsu.envs.spec import TaskError, bounds, missing_library, unknown_task
from kanbatsu.types import Key, Spec

BRAX_LIMIT = 1_000
"""Interactions of an episode in Brax, whose environments leave the limit to whoever trains."""


class Timed(NamedTuple):
    """A simulator's state, and how long its episode has lasted."""

    inner: Any
    interactions: Int[Array, ""]


def build(task: str) -> Simulator:
    """Build the simulator that a task names; of several observations, its policies see `state`.

    Raises:
        TaskError: the library is not installed, or has no such environment or backend.
    """
    library, _, name = task.partition("/")
    simulator, limit = (_brax if library == "brax" else _playground)(task, name)

    def reset(key: Key) -> tuple[Timed, Array]:
        state = simulator.reset(key)
        return Timed(state, jnp.int32(0)), _seen(state.obs)

    def step(state: Timed, action: Array, key: Key) -> tuple[Timed, Array, Any, Any, Any]:
        # What is random in a step the state decides.
        new = simulator.step(state.inner, jnp.clip(action, -1.0, 1.0))
        interactions = state.interactions + 1
        cut_off = interactions >= limit
        return Timed(new, interactions), _seen(new.obs), new.reward, new.done > 0.5, cut_off

    _, obs = jax.eval_shape(reset, jax.random.key(0))
    one = np.ones(simulator.action_size)  # the libraries' own convention
    spec = Spec((math.prod(obs.shape),), one.size, limit, **bounds(-one, one))
    return Simulator(spec, reset, step)


def _brax(task: str, name: str) -> tuple[Any, int]:
    """Build an environment of Brax, by its own backend or by the one that is named."""
    try:
        from brax import envs
    except ImportError as error:
        raise missing_library(task, "brax", error) from error
    backend, _, name = name.rpartition("/")
    _refuse_unknown(task, name, envs._envs)
    chosen = {"backend": backend} if backend else {}
    try:
        return envs.get_environment(name, **chosen), BRAX_LIMIT
    except ValueError as error:  # no such backend, or none that this environment has
        raise TaskError(f"{task} cannot be built: {error}") from error


def _playground(task: str, name: str) -> tuple[Any, int]:
    """Build an environment of MuJoCo Playground, on the physics written in JAX."""
    try:
        from mujoco_playground import registry
    except ImportError as error:
        raise missing_library(task, "playground", error) from error
    _refuse_unknown(task, name, registry.ALL_ENVS)
    config = registry.get_default_config(name)
    if "impl" in config:  # Warp, by default, needs a GPU of one maker
        config.impl = "jax"
    return registry.load(name, config=config), int(config.episode_length)


def _refuse_unknown(task: str, name: str, names: Iterable[str]) -> None:
    if name not in names:
        raise unknown_task(task, [f"{task.partition('/')[0]}/{known}" for known in names])


def _seen(obs: Any) -> Array:
    return obs["state"] if isinstance(obs, Mapping) else obs
