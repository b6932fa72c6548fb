"""Gymnasium tasks with discrete actions, for agents that act one-hot."""

from __future__ import annotations

from dataclasses import replace

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

from kanbatsu.envs.gym import GymEnvironment
from kanbatsu.envs.spec import TaskError


class OneHotActions(gymnasium.ActionWrapper):
    """Takes a one-hot vector, or any scores, and acts with the largest entry."""

    def __init__(self, environment: gymnasium.Env):
        super().__init__(environment)
        self._start = int(environment.action_space.start)  # type: ignore[attr-defined]
        actions = int(environment.action_space.n)  # type: ignore[attr-defined]
        self.action_space = Box(-1.0, 1.0, (actions,), np.float32)

    def action(self, action: np.ndarray) -> int:
        """Return the number of the action."""
        return self._start + int(np.argmax(action))


def discrete(environment: gymnasium.Env, name: str, action_repeat: int = 1) -> GymEnvironment:
    """Wrap a Gymnasium environment with `Discrete` actions; `action_dim` is their number.

    Args:
        environment: The environment; the result owns it from now on.
        name: What error messages call it.
        action_repeat: Env steps per decision.

    Raises:
        TaskError: Its actions are not discrete.

    Example:
        >>> discrete(gymnasium.make("CartPole-v1"), "gym/CartPole-v1").spec
        Spec(obs_shape=(4,), action_dim=2, episode_length=500)
    """
    if not isinstance(environment.action_space, Discrete):
        raise TaskError(
            f"{name} does not have discrete actions ({environment.action_space}); this agent "
            "chooses among a few. Use an agent for continuous actions, such as stream_ac or sac."
        )
    made = GymEnvironment(OneHotActions(environment), name, action_repeat)
    made.spec = replace(made.spec, discrete=True)
    return made
