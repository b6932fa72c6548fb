"""Environments of libraries that are written in JAX: gymnax, Brax and MuJoCo Playground."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from kanbatsu.envs import brax, gymnax
from kanbatsu.envs.functional import FunctionalStep, Simulator
from kanbatsu.types import Key, Spec

BUILDERS = {"gymnax": gymnax.build, "brax": brax.build, "playground": brax.build}
"""Builders of simulators, by what the names of tasks begin with."""


@dataclass(frozen=True)
class LibraryEnvironment:
    """One environment of a library; an image is laid out as one vector, unless it is asked for.

    It is these two fields alone, so that equal ones share compiled programs.

    Example:
        >>> LibraryEnvironment("gymnax/Breakout-MinAtar").spec
        Spec(obs_shape=(400,), action_dim=3, episode_length=1000)

    Reference:
        Lange 2022, "gymnax: A JAX-based Reinforcement Learning Environment Library"; Young and Tian
        2019, "MinAtar", arXiv 1903.03176; Freeman et al. 2021, "Brax - A Differentiable Physics
        Engine for Large Scale Rigid Body Simulation"; Zakka et al. 2025, "MuJoCo Playground", arXiv
        2502.08844.
    """

    task: str
    """Name of the task: `gymnax/<name>`, `brax/<name>`, `brax/<backend>/<name>` or
    `playground/<Name>`."""
    images: bool = False
    """Flag of images that stay images: uint8 `[height, width, channels]`, 255 where a plane is
    1."""

    @property
    def spec(self) -> Spec:
        """Sizes of observation and action, and the time limit."""
        simulator = _simulator(self.task)
        if self.images and simulator.image:
            return replace(simulator.spec, obs_shape=simulator.image, obs_dtype="uint8")
        return simulator.spec

    def reset(self, key: Key) -> tuple[Any, Num[Array, "*obs"]]:
        """Begin an episode."""
        # The libraries mix types as JAX does by default, whatever this program is stricter about.
        with jax.numpy_dtype_promotion("standard"):
            state, obs = _simulator(self.task).reset(key)
        return state, self._seen(obs)

    def step(
        self, state: Any, action: Float[Array, " action_dim"], key: Key
    ) -> tuple[Any, FunctionalStep]:
        """Act once; a continuous action in [-1, 1] is scaled to the bounds."""
        with jax.numpy_dtype_promotion("standard"):
            new, obs, reward, ends, cut_off = _simulator(self.task).step(state, action, key)
            # A state keeps its types, which `scan` asks for and not every simulator does.
            new = jax.tree.map(lambda x, like: jnp.asarray(x, jnp.result_type(like)), new, state)
            terminated = jnp.asarray(ends, bool)
            truncated = ~terminated & jnp.asarray(cut_off, bool)
        return new, FunctionalStep(self._seen(obs), jnp.float32(reward), terminated, truncated)

    def _seen(self, obs: Array) -> Num[Array, "*obs"]:
        """Return an observation as `spec` says."""
        if self.spec.obs_dtype == "uint8":
            return (255.0 * obs.astype(jnp.float32)).astype(jnp.uint8)
        return jnp.ravel(obs).astype(jnp.float32)


def load(task: str, *, images: bool = False) -> LibraryEnvironment:
    """Build the environment that a task names; with `images`, its images stay images.

    Raises:
        TaskError: the library is not installed, has no such environment or backend, or its
            observations or actions are none that agents here can use.
    """
    _simulator(task)
    return LibraryEnvironment(task, images)


@lru_cache(maxsize=32)
def _simulator(task: str) -> Simulator:
    """Build a simulator once."""
    with jax.numpy_dtype_promotion("standard"):
        return BUILDERS[task.partition("/")[0]](task)
