"""What an environment looks like to an agent and to a policy."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Spec:
    """Description of an environment that an agent needs before it sees it.

    Example:
        >>> Spec((4,), action_dim=2, discrete=True).obs_dim
        4
    """

    obs_shape: tuple[int, ...]
    """Shape of one observation: `(length,)`, or `(height, width, channels)` of an image."""
    action_dim: int
    """Length of the action: agents act in [-1, 1] and the environment rescales; of discrete ones,
    the number of actions, which are given one-hot."""
    episode_length: int | None = None
    """Interactions until the time limit cuts an episode off; None where there is no limit."""
    obs_dtype: Literal["float32", "uint8"] = field(default="float32", repr=False)
    """Type of the observation: uint8 of images, in [0, 255]."""
    discrete: bool = field(default=False, repr=False)
    """Flag of actions that are a choice among a few."""
    low: tuple[float, ...] | None = field(default=None, repr=False, compare=False)
    """Lowest value of each actuator, where it is known; agents do not need it, deployment does."""
    high: tuple[float, ...] | None = field(default=None, repr=False, compare=False)
    """Highest value of each actuator, where it is known."""

    @property
    def obs_dim(self) -> int:
        """Length of the observation laid out flat."""
        return math.prod(self.obs_shape)
