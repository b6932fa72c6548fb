"""The loop without a replay: decide, step, learn from that one sample, decide again.

Two loops do the same: one steps a simulator on the host, one is compiled with its environment.
Both are generators of turns; a turn is a stretch of decisions.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kanbatsu.agents.schedule import StreamTrainConfig
from kanbatsu.agents.streaming import Outcome, StreamingAgent
from kanbatsu.envs.functional import FunctionalEnvironment
from kanbatsu.envs.vector import Episode, VectorEnvironment
from kanbatsu.train.loop import Position, Stopwatch
from kanbatsu.train.stream_scan import Carry, Steps, advance, first_action
from kanbatsu.types import Key, Transition


class HostCarry(NamedTuple):
    """What the loop on the host needs to go on, beside the simulator."""

    state: Any
    action: Any
    """Chosen already, not yet taken."""


class StreamTurn(NamedTuple):
    """What one stretch of decisions did."""

    env_steps: int
    position: Position
    carry: Any
    """What the next stretch begins with, which reuses its buffers: copy it to keep it. The agent's
    state is `carry.state`."""
    episodes: tuple[tuple[int, Episode], ...]
    """Each with the env steps at its end."""
    transitions: Transition
    """Arrays `[decisions, ...]`, for measuring only."""
    metrics: Mapping[str, jax.Array]
    """Averages over about the last thousand decisions, still on the device."""


def start_host(agent: StreamingAgent, obs: np.ndarray, seed: int) -> HostCarry:
    """Initialise an agent and let it choose its first action for `obs`, `[1, obs_dim]`."""
    init_key, noise_key = jax.random.split(jax.random.key(seed))
    return HostCarry(*first_action(agent, agent.init(init_key), jnp.asarray(obs[0]), noise_key))


def stretch_of(config: StreamTrainConfig, action_repeat: int) -> int:
    """Return the decisions between two moments at which anything may be due.

    Example:
        >>> stretch_of(StreamTrainConfig(log_every=2_000), action_repeat=2)
        1000
    """
    moments = (
        config.log_every,
        config.probe_every,
        config.evaluate_every,
        config.checkpoint_every or config.log_every,
    )
    return max(1, min(moments) // action_repeat)


def stretches(
    env_steps: int, action_repeat: int, stretch: int, position: Position
) -> Iterator[tuple[int, int]]:
    """Yield where each stretch begins and how many decisions it has."""
    done, end = position.interactions, -(-env_steps // action_repeat)
    while done < end:
        yield done, min(stretch, end - done)
        done += stretch


@lru_cache(maxsize=8)
def _programs(agent: StreamingAgent, structure: Any) -> tuple[Any, Any]:
    """Compile the draws of a stretch, and one decision on the leaves of a state."""

    @partial(jax.jit, static_argnums=2)
    def draw(key: Key, begin: jax.Array, decisions: int) -> Any:
        return agent.noise(jax.random.fold_in(key, begin), decisions)

    @partial(jax.jit, donate_argnums=0)
    def learn(leaves: list[jax.Array], outcome: Outcome, noise: Any) -> tuple[list[jax.Array], Any]:
        state, action = agent.step(jax.tree.unflatten(structure, leaves), outcome, noise)
        return jax.tree.leaves(state), action

    return draw, learn


def stream_host(
    agent: StreamingAgent,
    environments: VectorEnvironment,
    *,
    env_steps: int,
    stretch: int,
    seed: int,
    carry: HostCarry,
    obs: np.ndarray,
    position: Position = Position(),  # noqa: B008
    watch: Stopwatch | None = None,
) -> Iterator[StreamTurn]:
    """Train until `env_steps` in a simulator on the host, one stretch at a time.

    One compiled call per decision learns, normalises and acts. Every draw is a function of the
    seed and the position, so that a run continued from a checkpoint draws what it would have.

    Args:
        agent: what acts and learns.
        environments: one environment; `obs` is what it showed last, `[1, obs_dim]`.
        env_steps: simulator steps (before action repeat) at which to stop.
        stretch: decisions per turn.
        seed: of exploration.
        carry: the agent's state and the action that it has chosen for `obs`.
        obs: the observation that the action is for.
        position: where to begin.
        watch: books the time spent in the environment and in learning.

    Raises:
        EnvironmentFault: if the environment returns something that is not finite, or misshapen.
    """
    watch = watch or Stopwatch()
    key = jax.random.key(seed)
    # Flat, because taking modules apart in Python would cost more than many a network's update.
    # Copied, because each call gives its buffers away, and none may be given twice.
    leaves, structure = jax.tree.flatten(jax.tree.map(jnp.copy, carry.state))

    draw, learn = _programs(agent, structure)  # type: ignore[arg-type]  # agents hash
    action = np.asarray(carry.action)
    for begin, decisions in stretches(env_steps, environments.action_repeat, stretch, position):
        noise, rows = jax.tree.flatten(
            jax.tree.map(np.asarray, draw(key, np.int32(begin), decisions))
        )
        transitions, episodes, learning = [], [], 0.0
        for index in range(decisions):
            started = time.perf_counter()
            step = environments.step(action[None])
            learned = started + watch.add("environment", started)
            outcome = Outcome(
                step.reward[0], step.terminated[0], step.truncated[0], step.next_obs[0], step.obs[0]
            )
            transitions.append((obs[0], action, *outcome[:4]))
            leaves, chosen = learn(
                leaves, outcome, jax.tree.unflatten(rows, [x[index] for x in noise])
            )
            action, obs = np.asarray(chosen), step.obs
            learning += watch.add("update", learned)
            env_steps_done = (begin + index + 1) * environments.action_repeat
            episodes += [(env_steps_done, episode) for episode in step.episodes]
        watch.update_milliseconds.append(1e3 * learning / decisions)
        state = jax.tree.unflatten(structure, leaves)
        yield StreamTurn(
            env_steps=(begin + decisions) * environments.action_repeat,
            position=Position(begin + decisions, begin + decisions),
            carry=HostCarry(state, action),
            episodes=tuple(episodes),
            transitions=Transition(*(np.stack(x) for x in zip(*transitions, strict=True))),
            metrics=agent.metrics(state),
        )


_advance = jax.jit(advance, static_argnums=(0, 1, 4), donate_argnums=2)


def stream_compiled(
    agent: StreamingAgent,
    environment: FunctionalEnvironment,
    *,
    env_steps: int,
    stretch: int,
    seed: int,
    carry: Carry,
    position: Position = Position(),  # noqa: B008
    watch: Stopwatch | None = None,
) -> Iterator[StreamTurn]:
    """Train until `env_steps` in a functional environment: one compiled call per stretch.

    Args:
        agent: what acts and learns.
        environment: pure functions.
        env_steps: decisions at which to stop.
        stretch: decisions per turn.
        seed: of exploration and environment.
        carry: what `kanbatsu.train.stream_scan.start` or an earlier turn returned.
        position: where to begin.
        watch: books the time spent.

    Raises:
        FloatingPointError: if the agent or the environment is no longer finite.
    """
    watch = watch or Stopwatch()
    key = jax.random.key(seed)
    carry = jax.tree.map(jnp.copy, carry)  # each call gives the buffers away
    for begin, decisions in stretches(env_steps, 1, stretch, position):
        started = time.perf_counter()
        carry, steps = _advance(
            agent, environment, carry, jax.random.fold_in(key, begin), decisions
        )
        jax.block_until_ready(steps)
        watch.update_milliseconds.append(1e3 * watch.add("update", started) / decisions)
        yield compiled_turn(agent, carry, jax.tree.map(np.asarray, steps), begin)


def compiled_turn(agent: StreamingAgent, carry: Carry, steps: Steps, begin: int) -> StreamTurn:
    """Say what a compiled stretch did.

    Args:
        agent: what acted and learned.
        carry: what the next stretch begins with.
        steps: of the stretch, on the host.
        begin: decisions before it.

    Raises:
        FloatingPointError: if the agent or the environment is no longer finite.
    """
    done = begin + len(steps.ended)
    metrics = agent.metrics(carry.state)
    unfit = [name for name, value in metrics.items() if not np.isfinite(value)]
    if unfit:
        raise FloatingPointError(
            f"{', '.join(unfit)} is not finite after {done} decisions: the agent has diverged, or "
            "the environment returned something that is not finite"
        )
    return StreamTurn(
        env_steps=done,
        position=Position(done, done),
        carry=carry,
        episodes=tuple(
            (begin + int(at) + 1, Episode(float(steps.return_[at]), int(steps.length[at]), None))
            for at in np.flatnonzero(steps.ended)
        ),
        transitions=steps.transition,
        metrics=metrics,
    )
