"""Evaluation: greedy episodes on an environment with seeds of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from kanbatsu.envs.spec import Environment
from kanbatsu.envs.vector import Episode, VectorEnvironment


class Evaluation(NamedTuple):
    """What each episode gave."""

    returns: tuple[float, ...]
    """Undiscounted sums of reward."""
    lengths: tuple[int, ...]
    """Decisions until the end."""
    success_rate: float | None
    """Share of episodes that reported success; None where the environment never says."""


def evaluate(
    act_greedy: Callable[[Any, np.ndarray], jax.Array],
    state: Any,
    environment: Environment,
    *,
    seed: int,
    episodes: int,
) -> Evaluation:
    """Play without exploration; the agent's state does not move.

    Args:
        act_greedy: the agent's, compiled; maps `[1, obs_dim]` to `[1, action_dim]`.
        state: the agent's.
        environment: one that training does not touch.
        seed: decides the episodes.
        episodes: how many to play, one after the other.

    Raises:
        EnvironmentFault: if the environment returns something unusable.
    """
    arena = VectorEnvironment([environment], seed)
    obs, played = arena.reset(), list[Episode]()
    while len(played) < episodes:
        step = arena.step(np.asarray(act_greedy(state, obs)))
        obs = step.obs
        played.extend(step.episodes)
    successes = [episode.success for episode in played if episode.success is not None]
    return Evaluation(
        tuple(episode.return_ for episode in played),
        tuple(episode.length for episode in played),
        float(np.mean(successes)) if successes else None,
    )
