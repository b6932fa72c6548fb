"""Evaluation: greedy episodes on an environment with seeds of its own.

A simulator on the host is stepped there; one that is a pure function is compiled with the agent and
plays all episodes side by side.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Num

from kanbatsu.envs.functional import FunctionalEnvironment, functional_of
from kanbatsu.envs.spec import Environment
from kanbatsu.envs.vector import EnvironmentFault, Episode, VectorEnvironment
from kanbatsu.types import Key

MOST_INTERACTIONS = 100_000
"""The longest evaluation episode, unless the environment states a longer time limit."""


class Evaluation(NamedTuple):
    """Outcome of each episode."""

    returns: tuple[float, ...]
    """Undiscounted sums of reward."""
    lengths: tuple[int, ...]
    """Interactions until the end."""
    success_rate: float | None
    """Share of episodes that reported success; None where the environment never says."""


def evaluate(
    act_greedy: Callable[[Any, Any], jax.Array],
    state: Any,
    environment: Environment,
    *,
    seed: int,
    episodes: int,
) -> Evaluation:
    """Play without exploration; the agent's state does not move.

    Args:
        act_greedy: the agent's, compiled; maps `[1, *obs]` to `[1, action_dim]`.
        state: the agent's.
        environment: one that training does not touch.
        seed: decides the episodes.
        episodes: how many to play, one after the other.

    Raises:
        EnvironmentFault: if the environment returns something unusable, or an episode does not
            end.
    """
    functional = functional_of(environment)
    if functional is not None:
        return evaluate_compiled(act_greedy, state, functional, seed=seed, episodes=episodes)
    arena = VectorEnvironment([environment], seed)
    most = max(MOST_INTERACTIONS, environment.spec.episode_length or 0)
    obs, played, interactions = arena.reset(), list[Episode](), 0
    while len(played) < episodes:
        step = arena.step(np.asarray(act_greedy(state, obs)))
        obs, interactions = step.obs, 0 if step.episodes else interactions + 1
        played.extend(step.episodes)
        if interactions >= most:
            raise EnvironmentFault(
                f"evaluation episode {len(played)} (seed {seed}) did not end within {most:,} "
                "interactions: give the environment a time limit, such as "
                "gymnasium.wrappers.TimeLimit(environment, max_episode_steps=1000)"
            )
    successes = [episode.success for episode in played if episode.success is not None]
    return Evaluation(
        tuple(episode.return_ for episode in played),
        tuple(episode.length for episode in played),
        float(np.mean(successes)) if successes else None,
    )


def evaluate_compiled(
    act_greedy: Callable[[Any, Array], Array],
    state: Any,
    environment: FunctionalEnvironment,
    *,
    seed: int,
    episodes: int,
) -> Evaluation:
    """Play without exploration in a functional environment: one compiled call for all episodes.

    Args:
        act_greedy: the agent's; maps `[n, *obs]` to `[n, action_dim]`. Compiled once for each
            function and environment, so give the same objects every time.
        state: the agent's.
        environment: pure functions.
        seed: decides the episodes.
        episodes: how many to play; each is the same however many there are.

    Raises:
        EnvironmentFault: if an observation or a reward is not finite.

    Example:
        >>> from kanbatsu.envs.classic import Pendulum
        >>> rest = lambda state, obs: jnp.zeros((len(obs), 1))
        >>> evaluate_compiled(rest, None, Pendulum(), seed=0, episodes=2).lengths
        (200, 200)
    """
    games = jax.device_get(
        _play(act_greedy, state, environment, jax.random.key(seed), episodes=episodes)
    )
    if not games.finite.all():
        raise EnvironmentFault(
            f"the environment returned something that is not finite in evaluation episode "
            f"{int(np.argmin(games.finite))} (seed {seed})"
        )
    return Evaluation(tuple(games.return_.tolist()), tuple(games.length.tolist()), None)


class _Games(NamedTuple):
    """Episodes under way."""

    world: Any
    obs: Num[Array, "episodes *obs"]
    key: Key
    return_: Float[Array, " episodes"]
    length: Int[Array, " episodes"]
    going: Bool[Array, " episodes"]
    finite: Bool[Array, " episodes"]
    """Until it ended, everything was."""


@partial(jax.jit, static_argnames=("act_greedy", "environment", "episodes"))
def _play(
    act_greedy: Callable[[Any, Array], Array],
    state: Any,
    environment: FunctionalEnvironment,
    key: Key,
    *,
    episodes: int,
) -> _Games:
    """Play until the last episode has ended; those that ended before run on, and do not count."""

    def turn(games: _Games) -> _Games:
        action = act_greedy(state, games.obs)
        key, step_key = jax.random.split(games.key)
        world, step = jax.vmap(environment.step)(
            games.world, action, jax.random.split(step_key, episodes)
        )
        seen = jnp.isfinite(step.obs.reshape(episodes, -1)).all(axis=-1)
        finite = jnp.isfinite(step.reward) & seen
        return _Games(
            world,
            step.obs,
            key,
            games.return_ + jnp.where(games.going, step.reward, 0.0),
            games.length + games.going.astype(jnp.int32),
            games.going & finite & ~(step.terminated | step.truncated),
            games.finite & (finite | ~games.going),
        )

    reset_key, key = jax.random.split(key)
    each = jax.vmap(lambda index: jax.random.fold_in(reset_key, index))(jnp.arange(episodes))
    world, obs = jax.vmap(environment.reset)(each)
    yes = jnp.ones(episodes, bool)
    games = _Games(world, obs, key, jnp.zeros(episodes), jnp.zeros(episodes, jnp.int32), yes, yes)
    return jax.lax.while_loop(lambda games: games.going.any(), turn, games)
