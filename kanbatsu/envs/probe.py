"""Five environments so small that their values are known: a failure says what is broken.

Each observation is `[cue, interactions so far]`; the cue is drawn when an episode begins. An agent
that fails the first cannot fit a value; the second, cannot see; the third, cannot look ahead; the
fourth, cannot improve its actions; the fifth, cannot suit them to what it sees.

Reference:
    A. Jones, "Debugging Reinforcement Learning Systems" (2021), for the idea and the ladder.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Float32

from kanbatsu.envs.spec import Timestep, bounds
from kanbatsu.types import Spec


class ProbeEnvironment:
    """Episodes of a fixed length that terminate, and pay once, with their last interaction.

    Args:
        pay: from the cue and the last action (a number in [-1, 1]) to the reward.
        cues: what the cue is drawn from.
        length: decisions per episode.
    """

    def __init__(
        self,
        pay: Callable[[float, float], float],
        cues: tuple[float, ...] = (0.0,),
        length: int = 1,
    ) -> None:
        self._pay, self._cues = pay, cues
        self._cue, self._interactions = 0.0, 0
        self.action_repeat = 1
        self.spec = Spec((2,), action_dim=1, episode_length=length, **bounds(-1.0, 1.0))

    def reset(self, seed: int) -> Float32[np.ndarray, " 2"]:
        """Draw the cue."""
        self._cue, self._interactions = float(np.random.default_rng(seed).choice(self._cues)), 0
        return self._observe()

    def step(self, action: Float[np.ndarray, " 1"]) -> Timestep:
        """Count the interaction, and pay if it is the last."""
        self._interactions += 1
        last = self._interactions == self.spec.episode_length
        reward = self._pay(self._cue, float(action[0])) if last else 0.0
        return Timestep(self._observe(), reward, terminated=last, truncated=False)

    def close(self) -> None:
        """Nothing to let go of."""

    def _observe(self) -> Float32[np.ndarray, " 2"]:
        return np.array([self._cue, self._interactions], np.float32)


def constant_reward() -> ProbeEnvironment:
    """One interaction, reward 1 whatever happens: every value is 1.

    Example:
        >>> environment = constant_reward()
        >>> environment.reset(seed=0).tolist(), environment.step(np.array([0.3])).reward
        ([0.0, 0.0], 1.0)
    """
    return ProbeEnvironment(lambda cue, action: 1.0)


def observed_reward() -> ProbeEnvironment:
    """One interaction, the cue is -1 or 1 and the reward equals it: V(cue) = cue.

    Example:
        >>> environment = observed_reward()
        >>> cue, _ = environment.reset(seed=3)
        >>> environment.step(np.array([0.3])).reward == cue
        np.True_
    """
    return ProbeEnvironment(lambda cue, action: cue, cues=(-1.0, 1.0))


def delayed_reward() -> ProbeEnvironment:
    """Two interactions, reward 1 with the second: V is the discount at first, then 1.

    Example:
        >>> environment = delayed_reward()
        >>> _ = environment.reset(seed=0)
        >>> [environment.step(np.array([0.3])).reward for _ in range(2)]
        [0.0, 1.0]
    """
    return ProbeEnvironment(lambda cue, action: 1.0, length=2)


def action_reward() -> ProbeEnvironment:
    """One interaction, reward 1 - (action - 0.5)^2: the best action is 0.5, and its value 1.

    Example:
        >>> environment = action_reward()
        >>> _ = environment.reset(seed=0)
        >>> environment.step(np.array([0.5])).reward
        1.0
    """
    return ProbeEnvironment(lambda cue, action: 1.0 - (action - 0.5) ** 2)


def observed_action_reward() -> ProbeEnvironment:
    """One interaction, the cue is -1 or 1, reward 1 - (action - cue/2)^2: act cue/2, value 1.

    Example:
        >>> environment = observed_action_reward()
        >>> cue, _ = environment.reset(seed=0)
        >>> environment.step(np.array([cue / 2])).reward
        1.0
    """
    return ProbeEnvironment(lambda cue, action: 1.0 - (action - cue / 2) ** 2, cues=(-1.0, 1.0))
