"""Environments of Brax and of MuJoCo Playground, which share an interface, as pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from kanbatsu.envs.functional import FunctionalStep
from kanbatsu.envs.spec import TaskError, unknown_task
from kanbatsu.types import Key, Spec

BRAX_LIMIT = 1_000
"""Decisions of an episode in Brax, whose environments leave the limit to whoever trains."""


class Timed(NamedTuple):
    """A simulator's state, and how long its episode has lasted."""

    inner: Any
    decisions: Int[Array, ""]


@dataclass(frozen=True)
class BraxEnvironment:
    """One environment; where it shows several observations, the one that its policies see.

    Example:
        >>> BraxEnvironment("brax/ant").task
        'brax/ant'

    Reference:
        Freeman et al. 2021, "Brax - A Differentiable Physics Engine for Large Scale Rigid Body
        Simulation"; Zakka et al. 2025, "MuJoCo Playground", arXiv 2502.08844.
    """

    task: str
    """`brax/<name>`, `brax/<backend>/<name>`, or `playground/<Name>`."""

    @property
    def spec(self) -> Spec:
        """Sizes of observation and action, and the time limit."""
        return _loaded(self.task).spec

    def reset(self, key: Key) -> tuple[Timed, Float[Array, " obs_dim"]]:
        """Begin an episode."""
        with jax.numpy_dtype_promotion("standard"):
            state = _loaded(self.task).simulator.reset(key)
        return Timed(state, jnp.int32(0)), _seen(state.obs)

    def step(
        self, state: Timed, action: Float[Array, " action_dim"], key: Key
    ) -> tuple[Timed, FunctionalStep]:
        """Take one decision, of one control step; what is random in it the state decides."""
        simulator, spec = _loaded(self.task)
        with jax.numpy_dtype_promotion("standard"):
            new = simulator.step(state.inner, jnp.clip(action, -1.0, 1.0))
            # A state keeps its types, which `scan` asks for and not every simulator does.
            kept = jax.tree.map(
                lambda x, like: jnp.asarray(x, jnp.result_type(like)), new, state.inner
            )
        decisions, terminated = state.decisions + 1, new.done > 0.5
        assert spec.episode_length is not None
        truncated = ~terminated & (decisions >= spec.episode_length)
        step = FunctionalStep(_seen(new.obs), jnp.float32(new.reward), terminated, truncated)
        return Timed(kept, decisions), step


def load(task: str) -> BraxEnvironment:
    """Build the environment that a task names.

    Raises:
        TaskError: The library is not installed, or has no such environment or backend.
    """
    _loaded(task)
    return BraxEnvironment(task)


class _Loaded(NamedTuple):
    """A simulator, and what it amounts to."""

    simulator: Any
    spec: Spec


@lru_cache(maxsize=8)
def _loaded(task: str) -> _Loaded:
    """Build a simulator once, and read off what it is."""
    library, _, name = task.partition("/")
    with jax.numpy_dtype_promotion("standard"):
        simulator, limit = (_brax if library == "brax" else _playground)(task, name)
        seen = jax.eval_shape(simulator.reset, jax.random.key(0)).obs
    size = math.prod((seen["state"] if isinstance(seen, Mapping) else seen).shape)
    return _Loaded(simulator, Spec((size,), simulator.action_size, limit))


def _brax(task: str, name: str) -> tuple[Any, int]:
    """Build an environment of Brax, by its own backend or by the one that is named."""
    try:
        from brax import envs
    except ImportError as error:
        raise _missing(task, "brax", error) from error
    backend, _, name = name.rpartition("/")
    _known(task, name, envs._envs, "brax")
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
        raise _missing(task, "playground", error) from error
    _known(task, name, registry.ALL_ENVS, "playground")
    config = registry.get_default_config(name)
    if "impl" in config:  # Warp, by default, needs a GPU of one maker
        config.impl = "jax"
    return registry.load(name, config=config), int(config.episode_length)


def _known(task: str, name: str, names: Iterable[str], library: str) -> None:
    if name not in names:
        raise unknown_task(task, [f"{library}/{each}" for each in names])


def _missing(task: str, library: str, error: ImportError) -> TaskError:
    return TaskError(
        f"{task} needs {library}, which cannot be loaded ({error}): "
        f"pip install 'kanbatsu[{library}]'"
    )


def _seen(obs: Any) -> Float[Array, " obs_dim"]:
    return jnp.ravel(obs["state"] if isinstance(obs, Mapping) else obs).astype(jnp.float32)
