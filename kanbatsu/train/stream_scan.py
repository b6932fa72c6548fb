"""Whole runs as one compiled program: a streaming agent in a functional environment."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from kanbatsu.agents.streaming import Outcome, StreamingAgent, choose
from kanbatsu.envs.functional import FunctionalEnvironment
from kanbatsu.types import Key, Transition

SMALL_BYTES = 4_096
"""Of a simulator's state: as many of them as there are decisions in a stretch fit anywhere."""


class Carry(NamedTuple):
    """All that goes from one decision to the next."""

    state: Any
    """The agent's."""
    world: Any
    """The simulator's."""
    obs: Float[Array, " obs_dim"]
    action: Float[Array, " action_dim"]
    return_: Float[Array, ""]
    """Of the episode so far."""
    length: Int[Array, ""]


class Steps(NamedTuple):
    """What each decision of a stretch led to."""

    transition: Transition
    ended: Bool[Array, " decisions"]
    return_: Float[Array, " decisions"]
    """Of the episode, this decision included."""
    length: Int[Array, " decisions"]


class Curve(NamedTuple):
    """How a whole run went, at `points` moments."""

    decisions: Int[Array, " points"]
    episodes: Int[Array, " points"]
    """Ended since the moment before."""
    mean_return: Float[Array, " points"]
    """Of these episodes; NaN where there are none."""
    metrics: dict[str, Float[Array, " points"]]
    """As the agent tells them then."""


def start(
    agent: StreamingAgent, environment: FunctionalEnvironment, key: Key, masks: Any = None
) -> Carry:
    """Initialise an agent, begin an episode, and choose the first action."""
    init_key, world_key, noise_key = jax.random.split(key, 3)
    world, obs = _reset(environment, world_key)
    state, action = first_action(agent, agent.init(init_key, masks), obs, noise_key)
    return Carry(state, world, obs, action, jnp.float32(0.0), jnp.int32(0))


@partial(jax.jit, static_argnums=0)
def first_action(agent: StreamingAgent, state: Any, obs: Array, key: Key) -> tuple[Any, Array]:
    """Let an agent look at the first observation of all and choose its first action."""
    noise = jax.tree.map(lambda x: x[0], agent.noise(key, 1))
    return agent.begin(state, obs, noise)


@partial(jax.jit, static_argnums=0)
def _reset(environment: FunctionalEnvironment, key: Key) -> tuple[Any, Array]:
    return environment.reset(key)


def advance(
    agent: StreamingAgent,
    environment: FunctionalEnvironment,
    carry: Carry,
    key: Key,
    decisions: int,
) -> tuple[Carry, Steps]:
    """Act, learn and act again, `decisions` times; what is not used of `Steps` costs nothing.

    All that is random and does not depend on the state is drawn before the loop. So is, where a
    simulator is small, a new episode for each decision: drawing inside, decision by decision, took
    a fifth of a small step. What begins is the same either way.
    """
    noise_key, world_key = jax.random.split(key)
    beginning = jax.eval_shape(environment.reset, world_key)
    small = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(beginning)) <= SMALL_BYTES

    def turn(carry: Carry, draws: tuple[Any, Key, Any]) -> tuple[Carry, Steps]:
        noise, step_key, fresh = draws
        world, step = environment.step(carry.world, carry.action, step_key)
        ended = step.terminated | step.truncated
        if small:
            world, obs = choose(ended, fresh, (world, step.obs))
        else:
            world, obs = jax.lax.cond(
                ended, lambda: environment.reset(fresh), lambda: (world, step.obs)
            )
        outcome = Outcome(step.reward, step.terminated, step.truncated, step.obs, obs)
        state, action = agent.step(carry.state, outcome, noise)
        return_, length = carry.return_ + step.reward, carry.length + 1
        transition = Transition(
            carry.obs, carry.action, step.reward, step.terminated, step.truncated, step.obs
        )
        after = Carry(
            state,
            world,
            obs,
            action,
            jnp.where(ended, 0.0, return_),
            jnp.where(ended, 0, length),
        )
        return after, Steps(transition, ended, return_, length)

    world_keys = jax.vmap(jax.random.split)(jax.random.split(world_key, decisions))
    fresh = jax.vmap(environment.reset)(world_keys[:, 1]) if small else world_keys[:, 1]
    draws = (agent.noise(noise_key, decisions), world_keys[:, 0], fresh)
    return jax.lax.scan(turn, carry, draws)


def make_train(
    agent: StreamingAgent, environment: FunctionalEnvironment, decisions: int, points: int = 100
) -> Callable[..., tuple[Any, Curve]]:
    """Make a whole run a pure function.

    Args:
        agent: what learns.
        environment: what it learns in.
        decisions: how long; a multiple of `points`.
        points: moments of the curve, evenly apart.

    Returns:
        `train(key, masks=None)` to the agent's last state and its `Curve`. Masks are drawn on the
        host, so `jit` and `vmap` want them as an argument: `agent.masks(key)`, stacked.

    Raises:
        ValueError: `points` does not divide `decisions`.

    Example:
        >>> from kanbatsu.agents.stream_q import StreamQ, StreamQConfig
        >>> from kanbatsu.envs.classic import CartPole
        >>> agent = StreamQ(CartPole.spec, StreamQConfig(time=False))
        >>> train = make_train(agent, CartPole(), decisions=20, points=2)
        >>> _, curve = train(jax.random.key(0))
        >>> curve.decisions
        Array([10, 20], dtype=int32)
    """
    if decisions % points:
        raise ValueError(f"{points} points do not divide {decisions} decisions")
    stretch = decisions // points

    def train(key: Key, masks: Any = None) -> tuple[Any, Curve]:
        start_key, run_key = jax.random.split(key)

        def segment(carry: Carry, key: Key) -> tuple[Carry, Any]:
            carry, steps = advance(agent, environment, carry, key, stretch)
            episodes = steps.ended.sum(dtype=jnp.int32)
            total = jnp.where(steps.ended, steps.return_, 0.0).sum()
            mean = total / episodes.astype(jnp.float32)
            return carry, (episodes, mean, dict(agent.metrics(carry.state)))

        carry, (episodes, mean_return, metrics) = jax.lax.scan(
            segment,
            start(agent, environment, start_key, masks),
            jax.random.split(run_key, points),
        )
        done = stretch * jnp.arange(1, points + 1, dtype=jnp.int32)
        return carry.state, Curve(done, episodes, mean_return, metrics)

    return train
