"""Functional environments and learning in one program: a stretch of interactions is one scan.

What learns here is told outcome by outcome (`begin`, `step`): a streaming agent itself, in one
simulator; or, in several, a `RingLearner` around an agent with a replay, or a `Rollouts` around one
that learns from rollouts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Num

from kanbatsu.agents.schedule import RolloutTrainConfig, Schedule, TrainConfig
from kanbatsu.agents.streaming import Outcome, choose
from kanbatsu.envs.functional import FunctionalEnvironment
from kanbatsu.train.ring import RingLearner
from kanbatsu.train.rollout_learner import Rollouts
from kanbatsu.types import Key, Transition

SMALL_BYTES = 4_096
"""Bytes of a simulator's state up to which as many as there are interactions fit anywhere."""


class Carry(NamedTuple):
    """All that goes from one interaction to the next."""

    state: Any
    """State of what learns."""
    world: Any
    """State of the simulators."""
    obs: Num[Array, "..."]
    """Observation that is acted on next, `[*n, *obs]`."""
    action: Float[Array, "*n action_dim"]
    return_: Float[Array, "*n"]
    """Rewards of the episode so far."""
    length: Int[Array, "*n"]


class Steps(NamedTuple):
    """Outcome of each interaction of a stretch."""

    transition: Transition | None
    """None where nobody wants it."""
    ended: Bool[Array, "interactions *n"]
    return_: Float[Array, "interactions *n"]
    """Rewards of the episode, this interaction included."""
    length: Int[Array, "interactions *n"]


class LearningCurve(NamedTuple):
    """Course of a whole run, at `points` moments."""

    interactions: Int[Array, " points"]
    episodes: Int[Array, " points"]
    """Episodes that ended since the moment before."""
    mean_return: Float[Array, " points"]
    """Mean return of these episodes; NaN where there are none."""
    metrics: dict[str, Float[Array, " points"]]
    """Metrics of the agent's learning then."""


@dataclass(frozen=True)
class Simulators:
    """Several simulators of one functional environment, as one that steps them all."""

    environment: FunctionalEnvironment
    n: int

    def reset(self, key: Key) -> tuple[Any, Array]:
        """Begin an episode in each."""
        return jax.vmap(self.environment.reset)(jax.random.split(key, self.n))

    def step(self, state: Any, action: Array, key: Key) -> tuple[Any, Any]:
        """Take an interaction in each."""
        return jax.vmap(self.environment.step)(state, action, jax.random.split(key, self.n))


def learner_of(
    agent: Any, environment: FunctionalEnvironment, schedule: Schedule | None, interactions: int
) -> tuple[Any, Any]:
    """Return what learns in the scan, and the world that it learns in.

    Args:
        agent: an agent of any kind.
        environment: pure functions.
        schedule: the agent's; a streaming agent needs none here.
        interactions: of the whole run, over all simulators: no replay holds more transitions.

    Raises:
        ValueError: the replay cannot hold one turn, or the environment wants one of a few actions,
            which no agent with a replay chooses.
    """
    if isinstance(schedule, RolloutTrainConfig):
        return Rollouts(agent, schedule), Simulators(environment, schedule.environments)
    if not isinstance(schedule, TrainConfig):
        return agent, environment
    if environment.spec.discrete:
        raise ValueError("agents with a replay have continuous actions: use Stream Q here")
    learner = RingLearner(agent, schedule, min(schedule.replay_capacity, interactions))
    return learner, Simulators(environment, schedule.environments)


def start(learner: Any, world: Any, key: Key, masks: Any = None) -> Carry:
    """Initialise what learns, begin an episode, and choose the first action."""
    init_key, world_key, noise_key = jax.random.split(key, 3)
    simulator, obs = _reset(world, world_key)
    state, action = first_action(learner, learner.init(init_key, masks), obs, noise_key)
    n = action.shape[:-1]
    return Carry(state, simulator, obs, action, jnp.zeros(n), jnp.zeros(n, jnp.int32))


@partial(jax.jit, static_argnums=0)
def first_action(learner: Any, state: Any, obs: Array, key: Key) -> tuple[Any, Array]:
    """Let an agent look at the first observation of all and choose its first action."""
    noise = jax.tree.map(lambda x: x[0], learner.noise(key, 1))
    return learner.begin(state, obs, noise)


@partial(jax.jit, static_argnums=0)
def _reset(world: Any, key: Key) -> tuple[Any, Array]:
    return world.reset(key)


def advance(
    learner: Any, world: Any, carry: Carry, key: Key, interactions: int, keep: bool = True
) -> tuple[Carry, Steps]:
    """Act, learn and act again, `interactions` times.

    All that is random and does not depend on the state is drawn before the loop. So is, where a
    simulator is small, a new episode for each interaction: drawing inside, one by one, took a fifth
    of a small step. What begins is the same either way.

    Args:
        learner: what acts and learns.
        world: what it learns in.
        carry: where it stands.
        key: decides all that is random.
        interactions: in every simulator.
        keep: whether the transitions are returned.
    """
    noise_key, world_key = jax.random.split(key)
    beginning = jax.eval_shape(world.reset, world_key)
    small = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(beginning)) <= SMALL_BYTES

    def turn(carry: Carry, draws: tuple[Any, Key, Any]) -> tuple[Carry, Steps]:
        noise, step_key, fresh = draws
        simulator, step = world.step(carry.world, carry.action, step_key)
        ended = step.terminated | step.truncated
        going = (simulator, step.obs)
        if small:
            simulator, obs = choose(ended, fresh, going)
        else:
            simulator, obs = jax.lax.cond(
                ended.any(), lambda: choose(ended, world.reset(fresh), going), lambda: going
            )
        outcome = Outcome(step.reward, step.terminated, step.truncated, step.obs, obs)
        state, action = learner.step(carry.state, outcome, noise)
        return_, length = carry.return_ + step.reward, carry.length + 1
        wanted = keep or isinstance(learner, Rollouts)
        transition = Transition(carry.obs, carry.action, *outcome[:4]) if wanted else None
        after = Carry(
            state,
            simulator,
            obs,
            action,
            jnp.where(ended, 0.0, return_),
            jnp.where(ended, 0, length),
        )
        return after, Steps(transition, ended, return_, length)

    world_keys = jax.vmap(jax.random.split)(jax.random.split(world_key, interactions))
    fresh = jax.vmap(world.reset)(world_keys[:, 1]) if small else world_keys[:, 1]
    draws = (learner.noise(noise_key, interactions), world_keys[:, 0], fresh)
    if isinstance(learner, Rollouts):
        return _by_rollouts(learner, turn, carry, draws, jax.random.fold_in(key, 1), interactions)
    return jax.lax.scan(turn, carry, draws)


def _by_rollouts(
    learner: Rollouts, turn: Any, carry: Carry, draws: Any, key: Key, interactions: int
) -> tuple[Carry, Steps]:
    """Learn after each whole rollout; what is left at the end is acted, and not learned from."""
    length = learner.schedule.rollout
    whole = interactions // length

    def rollout(carry: Carry, item: tuple[Any, Key]) -> tuple[Carry, Steps]:
        draws, learn_key = item
        carry, steps = jax.lax.scan(turn, carry, draws)
        state = learner.learn(carry.state, steps.transition, learn_key)
        return carry._replace(state=state), steps._replace(transition=None)

    def cut(x: Array) -> Array:
        return x[: whole * length].reshape(whole, length, *x.shape[1:])

    items = (jax.tree.map(cut, draws), jax.random.split(key, whole))
    carry, steps = jax.lax.scan(rollout, carry, items)
    steps = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), steps)
    if whole * length == interactions:
        return carry, steps
    carry, rest = jax.lax.scan(turn, carry, jax.tree.map(lambda x: x[whole * length :], draws))
    rest = rest._replace(transition=None)
    return carry, jax.tree.map(lambda *x: jnp.concatenate(x), steps, rest)


def make_train(
    agent: Any,
    environment: FunctionalEnvironment,
    interactions: int,
    points: int = 100,
    schedule: Schedule | None = None,
) -> Callable[..., tuple[Any, LearningCurve]]:
    """Make a whole run a pure function, for `jax.jit` and `jax.vmap`.

    Args:
        agent: what learns.
        environment: what it learns in.
        interactions: how long, over all simulators; a multiple of `points` times the simulators.
        points: moments of the curve, evenly apart.
        schedule: of an agent with a replay: batch size, updates per interaction, warm-up, capacity
            (at most as many transitions as there will be) and simulators; of one that learns from
            rollouts: their length and simulators; the rest is not read.

    Returns:
        `train(key, masks=None)` to the agent's last state and its `LearningCurve`. Masks are drawn
        on the host, so `jit` and `vmap` want them as an argument: `agent.masks(key)`, stacked.

    Raises:
        ValueError: `interactions` is no such multiple, and as for `learner_of`.

    Example:
        >>> from kanbatsu.agents.stream_q import StreamQ, StreamQConfig
        >>> from kanbatsu.envs.classic import CartPole
        >>> agent = StreamQ(CartPole.spec, StreamQConfig(time=False))
        >>> train = make_train(agent, CartPole(), interactions=20, points=2)
        >>> _, curve = train(jax.random.key(0))
        >>> curve.interactions
        Array([10, 20], dtype=int32)
    """
    n = 1 if schedule is None else schedule.environments
    length = schedule.rollout if isinstance(schedule, RolloutTrainConfig) else 1
    if interactions % (points * n * length):
        raise ValueError(
            f"{points} points of {n} simulators each do not divide {interactions} interactions"
            + (f" into whole rollouts of {length}" if length > 1 else "")
        )
    learner, world = learner_of(agent, environment, schedule, interactions)

    def train(key: Key, masks: Any = None) -> tuple[Any, LearningCurve]:
        start_key, run_key = jax.random.split(key)

        def segment(carry: Carry, key: Key) -> tuple[Carry, Any]:
            turns = interactions // (points * n)
            carry, steps = advance(learner, world, carry, key, turns, keep=False)
            episodes = steps.ended.sum(dtype=jnp.int32)
            total = jnp.where(steps.ended, steps.return_, 0.0).sum()
            mean = total / episodes.astype(jnp.float32)
            return carry, (episodes, mean, dict(learner.metrics(carry.state)))

        carry, (episodes, mean_return, metrics) = jax.lax.scan(
            segment, start(learner, world, start_key, masks), jax.random.split(run_key, points)
        )
        done = interactions // points * jnp.arange(1, points + 1, dtype=jnp.int32)
        curve = LearningCurve(done, episodes, mean_return, metrics)
        return trained(learner, carry.state), curve

    return train


def trained(learner: Any, state: Any) -> Any:
    """Return the agent's own state in that of what learns in the scan."""
    return state.trained if isinstance(learner, RingLearner | Rollouts) else state
