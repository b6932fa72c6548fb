"""Any Gymnasium environment with bounded or discrete actions, behind flat float32 arrays."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete
from jaxtyping import Float, Float32

from kanbatsu.envs.own import where
from kanbatsu.envs.spec import TaskError, Timestep, bounds, refuse_actions, rescale, unknown_task
from kanbatsu.types import Spec

RESULTS = {
    "reset": "It must return two values: return observation, {}, where {} is info, a dict.",
    "step": "It must return five values: return observation, reward, terminated, truncated, info, "
    "where terminated means that the world ended and truncated that time ran out.",
}
"""Return values of Gymnasium's methods, for those who return something else."""
SUCCESS_KEYS = ("is_success", "success")
"""Keys under which an info dict may report success: Gymnasium-Robotics and SB3 use one, Meta-World
the other."""

PICTURES = "rgb_array"
"""Render mode in which Gymnasium's environments return pictures, without a display."""


def tasks() -> list[str]:
    """List the registered Gymnasium ids as `gym/<id>`.

    Example:
        >>> "gym/Pendulum-v1" in tasks()
        True
    """
    return [f"gym/{name}" for name in gymnasium.registry]


def load(task: str, *, drawn: bool = False) -> gymnasium.Env:
    """Build the Gymnasium environment that `gym/<id>` names.

    Args:
        task: `gym/<id>`; the id may name the module that registers it, `gym/<module>:<id>`.
        drawn: it will be asked for pictures of itself; where it cannot make any, it is built
            without.

    Returns:
        The environment, with the wrappers that its registration asks for.

    Raises:
        TaskError: no such id, or a package that the environment needs is missing.
    """
    name = task.removeprefix("gym/")
    try:
        # Gymnasium's checker would repeat, as warnings, what kanbatsu checks and fails on.
        made = gymnasium.make(name, disable_env_checker=True)
        if not drawn or PICTURES not in made.metadata.get("render_modes", ()):
            return made
        made.close()
        return gymnasium.make(name, disable_env_checker=True, render_mode=PICTURES)
    except (ImportError, gymnasium.error.DependencyNotInstalled) as error:
        raise TaskError(
            f"{task} cannot be loaded ({error}). Install what is missing, for instance "
            "pip install 'gymnasium[mujoco]' or 'gymnasium[box2d]'."
        ) from error
    except gymnasium.error.Error as error:
        raise unknown_task(task, tasks(), reason=str(error)) from error


class GymEnvironment:
    """A Gymnasium environment with `Box` or `Dict` observations, and `Box` or `Discrete` actions.

    Args:
        environment: the environment; this object owns it from now on.
        name: what error messages call it.
        action_repeat: env steps per interaction.
        discrete: whether the agent chooses among a few actions: it gives them one-hot, or as
            scores of which the largest counts, and `action_dim` is their number.

    Raises:
        TaskError: actions of the other kind, unbounded ones, or observations that are not flat
            boxes.

    Example:
        >>> GymEnvironment(gymnasium.make("Pendulum-v1"), "gym/Pendulum-v1").spec
        Spec(obs_shape=(3,), action_dim=1, episode_length=200)
        >>> GymEnvironment(gymnasium.make("CartPole-v1"), "gym/CartPole-v1", discrete=True).spec
        Spec(obs_shape=(4,), action_dim=2, episode_length=500)
    """

    def __init__(
        self,
        environment: gymnasium.Env,
        name: str,
        action_repeat: int = 1,
        *,
        discrete: bool = False,
    ) -> None:
        self._environment, self._name = environment, name
        actions = environment.action_space
        self._control = (_choice_of if discrete else _control_of)(actions, name)
        boxes = _boxes(environment.observation_space, name)
        self._entries = tuple(boxes) if isinstance(environment.observation_space, Dict) else None
        limit = _time_limit(environment)
        self.action_repeat = action_repeat
        self.spec = Spec(
            obs_shape=(sum(math.prod(box.shape) for box in boxes.values()),),
            action_dim=gymnasium.spaces.flatdim(actions),
            episode_length=None if limit is None else math.ceil(limit / action_repeat),
            discrete=discrete,
            **({} if discrete else bounds(actions.low, actions.high)),  # type: ignore[attr-defined]
        )

    def reset(self, seed: int) -> Float32[np.ndarray, " obs_dim"]:
        """Start the episode that belongs to `seed` and return its first observation."""
        try:
            result = self._environment.reset(seed=seed)
        except (TypeError, ValueError) as error:
            if "unexpected keyword argument 'seed'" in str(error):
                raise TaskError(
                    f"reset of {self._name} takes no seed, as in the old API of Gym. Give it "
                    "Gymnasium's: reset(self, *, seed=None, options=None)."
                ) from error
            raise self._old_api("reset", error) or error from error
        if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[1], Mapping):
            raise self._wrong_result("reset")
        return self._flatten(result[0])

    def step(self, action: Float[np.ndarray, " action_dim"]) -> Timestep:
        """Act once; the rewards of the repeated env steps add up.

        `success` is what the last of these env steps reports.
        """
        control = self._control(action)
        total = 0.0
        for _ in range(self.action_repeat):
            try:
                result = self._environment.step(control)
            except (TypeError, ValueError) as error:
                raise self._old_api("step", error) or error from error
            if not isinstance(result, tuple) or len(result) != 5:
                raise self._wrong_result("step")
            observation, reward, terminated, truncated, info = result
            if terminated and info.get("TimeLimit.truncated"):  # the old API's word for a cut-off
                terminated, truncated = False, True
            total += float(reward)
            if terminated or truncated:
                break
        return Timestep(
            self._flatten(observation),
            total,
            bool(terminated),
            bool(truncated),
            _success(info),
            info,
        )

    def _old_api(self, method: str, error: Exception) -> TaskError | None:
        """Return the refusal where a wrapper of Gymnasium's could not unpack what it was given."""
        unpacked = "unpack" in str(error) and "gymnasium" in where(error)
        return self._wrong_result(method) if unpacked else None

    def _wrong_result(self, method: str) -> TaskError:
        return TaskError(
            f"{method} of {self._name} does not return what Gymnasium's API asks for, but what the "
            f"old API of Gym did, or something else. {RESULTS[method]}"
        )

    def close(self) -> None:
        """Let go of the simulator."""
        self._environment.close()

    def _flatten(self, observation: Any) -> Float32[np.ndarray, " obs_dim"]:
        """Lay the entries end to end in the space's order."""
        if self._entries is None:
            return np.ravel(observation).astype(np.float32)
        return np.concatenate([np.ravel(observation[key]) for key in self._entries]).astype(
            np.float32
        )


def _choice_of(space: gymnasium.Space, name: str) -> Callable[[np.ndarray], int]:
    """Return what takes scores to the number of an action."""
    if not isinstance(space, Discrete):
        raise refuse_actions(name, discrete=False, space=space)
    return lambda action: int(space.start) + int(np.argmax(action))


def _control_of(space: gymnasium.Space, name: str) -> Callable[[np.ndarray], np.ndarray]:
    """Return what takes an action in [-1, 1] to the space, if these agents can act in it."""
    if isinstance(space, Discrete):
        raise refuse_actions(name, discrete=True, space=space)
    if not isinstance(space, Box) or not np.issubdtype(space.dtype, np.floating):
        raise TaskError(
            f"{name} has integer or structured actions ({space}); these agents need a Box of "
            "floats. Choose a task with such actions, for instance gym/Pendulum-v1, or give "
            "package.module:factory with a wrapper that maps a Box to your actions."
        )
    if not space.is_bounded():
        raise TaskError(
            f"{name} has unbounded actions ({space}); these agents act between finite bounds. "
            "Give its Box finite bounds, or wrap it with gymnasium.wrappers.TransformAction in a "
            "factory given as package.module:factory."
        )
    low, high = (bound.ravel().astype(np.float64) for bound in (space.low, space.high))
    dtype, shape = space.dtype, space.shape
    return lambda action: rescale(action, low, high).astype(dtype).reshape(shape)


def _boxes(space: gymnasium.Space, name: str) -> Mapping[str, Box]:
    """Return the observation's boxes by name, in the order in which they are laid end to end."""
    entries = space.spaces if isinstance(space, Dict) else {"": space}
    boxes = {key: entry for key, entry in entries.items() if isinstance(entry, Box)}
    if len(boxes) < len(entries):
        raise TaskError(
            f"{name} has observations that are neither a Box nor a flat Dict of boxes ({space}). "
            "Wrap it with gymnasium.wrappers.FlattenObservation, in a factory given as "
            "package.module:factory."
        )
    return boxes


def _time_limit(environment: gymnasium.Env) -> int | None:
    """Return the env steps until a time limit, wherever it is written."""
    limits = [] if environment.spec is None else [environment.spec.max_episode_steps]
    while isinstance(environment, gymnasium.Wrapper):
        if isinstance(environment, gymnasium.wrappers.TimeLimit):
            limits.append(environment._max_episode_steps)
        environment = environment.env
    return min((limit for limit in limits if limit is not None), default=None)


def _success(info: Mapping[str, Any]) -> bool | None:
    """Read success, where it is reported."""
    return next((bool(info[key]) for key in SUCCESS_KEYS if key in info), None)
