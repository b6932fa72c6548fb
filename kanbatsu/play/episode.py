"""One episode, moment by moment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Num

from kanbatsu.envs.spec import Environment
from kanbatsu.play.player import Player
from kanbatsu.types import Transition

LONGEST = 10_000
"""Interactions after which an episode without a time limit is left."""
PROBED, FEWEST = 10, 32
"""Interactions from one measurement of dormant units to the next, and before the first: a unit
that did not fire on a handful of observations may on others."""


class Moment(NamedTuple):
    """State of an episode after an interaction."""

    interaction: int
    """Number of the interaction, from 1."""
    obs: Num[np.ndarray, "*obs"]
    """Observation that was acted on."""
    action: Float[np.ndarray, " action_dim"]
    """Action, in [-1, 1] or one-hot."""
    reward: float
    """Reward of the interaction."""
    total: float
    """Sum of the rewards so far."""
    dormant: Mapping[str, float]
    """Share of dormant units of each network, as it was measured last."""
    over: bool
    """True of the last moment of an episode."""
    success: bool | None
    """Success, where the task reports it."""


def play(player: Player, environment: Environment, seed: int) -> Iterator[Moment]:
    """Play one episode, and yield every moment of it.

    Args:
        player: who acts.
        environment: its task.
        seed: decides the episode.

    Yields:
        The moments in turn; the environment stands at the moment that was yielded.
    """
    player.begin()
    dtype = environment.spec.obs_dtype
    obs, total = np.asarray(environment.reset(seed), dtype), 0.0
    past: list[Transition] = []
    dormant: Mapping[str, float] = {}
    longest = environment.spec.episode_length or LONGEST
    for interaction in range(1, longest + 1):
        action = player.act(obs)
        step = environment.step(action)
        total += step.reward
        next_obs = np.asarray(step.obs, dtype)
        ends = np.bool_(step.terminated), np.bool_(step.truncated)
        past.append(Transition(obs, action, np.float32(step.reward), *ends, next_obs))
        over = step.terminated or step.truncated or interaction == longest
        if over or (interaction >= FEWEST and interaction % PROBED == 0):
            dormant = player.dormant(past)
        yield Moment(interaction, obs, action, step.reward, total, dormant, over, step.success)
        if over:
            return
        obs = next_obs
