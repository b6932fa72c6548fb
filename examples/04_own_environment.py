"""A Gymnasium environment of your own, as a study names it.

In this folder: kanbatsu study 04_own_environment.toml --out ../out/reach
"""

import gymnasium
import numpy as np


class Reach(gymnasium.Env):
    """Move a point to the origin."""

    observation_space = gymnasium.spaces.Box(-2.0, 2.0, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-0.2, 0.2, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple:
        """Begin anywhere; the seed alone decides where, so that a run can be continued exactly."""
        super().reset(seed=seed)
        self._at = self.np_random.uniform(-1.0, 1.0, 2).astype(np.float32)
        return self._at, {}

    def step(self, action: np.ndarray) -> tuple:
        """Move. What `is_success` is at the last step counts for the episode."""
        self._at = np.clip(self._at + action, -2.0, 2.0).astype(np.float32)
        distance = float(np.linalg.norm(self._at))
        arrived = distance < 0.1
        return self._at, -distance, arrived, False, {"is_success": arrived}


def reach() -> gymnasium.Env:
    """Build the environment. Arriving terminates an episode; this time limit truncates it."""
    return gymnasium.wrappers.TimeLimit(Reach(), max_episode_steps=30)
