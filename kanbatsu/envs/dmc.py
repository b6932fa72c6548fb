"""DeepMind Control tasks, straight from dm_control's suite; nothing is rendered here."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Float32

from kanbatsu.envs.spec import TaskError, Timestep, bounds, rescale, unknown_task
from kanbatsu.types import Spec

ACTION_REPEAT = 2
"""Env steps per interaction: the setting of SimBa and of most work on these tasks."""

UNBOUNDED = 1e10
"""Number that dm_control writes where an actuator has no limit (mujoco's mjMAXVAL)."""


def tasks() -> list[str]:
    """List the suite's tasks under the names that kanbatsu gives them.

    Returns:
        Names such as `dmc/walker-walk`.

    Raises:
        TaskError: dm_control is not installed, or not beside its own mujoco.
    """
    return [f"dmc/{domain}-{name}" for domain, name in _suite().ALL_TASKS]


class DMCEnvironment:
    """One task of the DeepMind Control suite.

    Observations are the task's own, flattened in its order. `terminated` is a discount of 0 at the
    last step, which no bounded task of the suite gives: episodes end by their time limit.

    Args:
        task: `dmc/<domain>-<task>`.
        action_repeat: env steps per interaction.

    Raises:
        TaskError: no such task, unbounded actions, or dm_control is missing.

    Example:
        >>> environment = DMCEnvironment("dmc/cartpole-balance")
        >>> environment.spec
        Spec(obs_shape=(5,), action_dim=1, episode_length=500)

    Reference:
        Tassa et al. 2018, "DeepMind Control Suite".
    """

    def __init__(self, task: str, action_repeat: int = ACTION_REPEAT) -> None:
        suite = _suite()
        names = {f"dmc/{domain}-{name}": (domain, name) for domain, name in suite.ALL_TASKS}
        if task not in names:
            raise unknown_task(task, names)
        # The seed given here makes the model; every episode brings its own.
        self._environment = suite.load(*names[task], task_kwargs={"random": 0})
        # quadruped-escape hands its terrain to a renderer, which it would open a display for.
        self._environment.physics._make_rendering_contexts = lambda: None
        self._low, self._high = _bounds(task, self._environment.action_spec())
        # The suite counts steps until they reach this limit, a float that need not be whole.
        limit = self._environment._step_limit
        observations = self._environment.observation_spec().values()
        self.action_repeat = action_repeat
        self.spec = Spec(
            obs_shape=(sum(math.prod(observation.shape) for observation in observations),),
            action_dim=self._low.size,
            episode_length=None
            if math.isinf(limit)
            else math.ceil(math.ceil(limit) / action_repeat),
            **bounds(self._low, self._high),
        )

    def reset(self, seed: int) -> Float32[np.ndarray, " obs_dim"]:
        """Start the episode that belongs to `seed` and return its first observation."""
        self._environment.task.random.seed(seed)
        return _flatten(self._environment.reset().observation)

    def step(self, action: Float[np.ndarray, " action_dim"]) -> Timestep:
        """Act once; the rewards of the repeated env steps add up."""
        control = rescale(action, self._low, self._high)
        reward = 0.0
        for _ in range(self.action_repeat):
            step = self._environment.step(control)
            reward += float(step.reward)
            if step.last():
                break
        terminated = step.last() and step.discount == 0.0
        return Timestep(
            _flatten(step.observation), reward, terminated, step.last() and not terminated
        )

    def close(self) -> None:
        """Let go of the simulator."""
        self._environment.close()

    @property
    def model(self) -> Any:
        """`mujoco.MjModel` of the simulation, to draw it."""
        return self._environment.physics.model.ptr

    @property
    def data(self) -> Any:
        """`mujoco.MjData` of the simulation, to draw it."""
        return self._environment.physics.data.ptr


def _suite() -> Any:
    """Import dm_control's suite, on a machine without a display too."""
    # dm_control opens a renderer as soon as it is imported unless it is told not to: a second or
    # two, and a warning where there is no display. Put back afterwards, for others may render.
    unset = "MUJOCO_GL" not in os.environ
    if unset:
        os.environ["MUJOCO_GL"] = "disabled"
    try:
        from dm_control import suite
    except (ImportError, AttributeError) as error:
        raise TaskError(
            f"dmc/ tasks need dm_control, which does not load here ({error}). It works only beside "
            "its own mujoco: pip install 'kanbatsu[dmc]' installs a pair that fits."
        ) from error
    finally:
        if unset:
            del os.environ["MUJOCO_GL"]
    return suite


def _bounds(task: str, action_spec: Any) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest action, or an error where there is none."""
    low, high = action_spec.minimum.astype(np.float64), action_spec.maximum.astype(np.float64)
    if max(-low.min(), high.max()) >= UNBOUNDED:
        raise TaskError(
            f"{task} has unbounded actions; these agents act between finite bounds. Choose another "
            "task, or give package.module:factory with an environment that bounds them."
        )
    return low, high


def _flatten(observation: Mapping[str, Any]) -> Float32[np.ndarray, " obs_dim"]:
    """Lay the entries end to end in the task's order."""
    return np.concatenate([np.ravel(entry) for entry in observation.values()]).astype(np.float32)
