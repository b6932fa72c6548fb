"""Environments of gymnax, MinAtar among them, as pure functions."""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from kanbatsu.envs.functional import Simulator
from kanbatsu.envs.spec import TaskError, bounds, missing_library, unknown_task
from kanbatsu.types import Key, Spec


def build(task: str) -> Simulator:
    """Build the simulator that `gymnax/<name>` names.

    Raises:
        TaskError: gymnax is not installed, or it has no such environment, or its observations or
            actions are none that agents here can use.
    """
    try:
        import gymnax
        from gymnax import registration
        from gymnax.environments import spaces
    except ImportError as error:
        raise missing_library(task, "gymnax", error) from error
    name = task.removeprefix("gymnax/")
    if name not in registration.registered_envs:
        raise unknown_task(task, [f"gymnax/{known}" for known in registration.registered_envs])
    simulator, params = gymnax.make(name)
    seen, moves = simulator.observation_space(params), simulator.action_space(params)
    if not isinstance(seen, spaces.Box) or not isinstance(moves, spaces.Box | spaces.Discrete):
        raise TaskError(f"{task} has observations or actions that are no box or choice ({moves})")
    discrete = isinstance(moves, spaces.Discrete)
    if not discrete:
        low, high = (np.broadcast_to(x, moves.shape).ravel() for x in (moves.low, moves.high))
    size = int(moves.n) if discrete else math.prod(moves.shape)
    limit = int(params.max_steps_in_episode)

    def reset(key: Key) -> tuple[Any, Array]:
        obs, state = simulator.reset_env(key, params)
        return state, obs

    def step(state: Any, action: Array, key: Key) -> tuple[Any, Array, Any, Any, Any]:
        move: Any = jnp.argmax(action).astype(jnp.int32)
        if not discrete:
            move = low + (high - low) * (jnp.clip(action, -1.0, 1.0) + 1.0) / 2.0
        obs, new, reward, terminated, _ = simulator.step_env(key, state, move, params)
        return new, obs, reward, terminated, simulator.is_truncated(new, params)

    known = {} if discrete else bounds(low, high)
    spec = Spec((math.prod(seen.shape),), size, limit, discrete=discrete, **known)
    return Simulator(spec, reset, step, image=seen.shape if len(seen.shape) == 3 else ())
