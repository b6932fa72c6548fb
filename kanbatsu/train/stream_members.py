"""The loops of `kanbatsu.train.stream` for several agents in lockstep.

They differ in their seeds, and may differ in which of their weights exist.

One compiled program learns, normalises and acts for all of them. A member is the run that it would
be alone: its draws, its simulator and its episodes are its own. Only rounding may differ, because
a product of many members is another program than that of one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from operator import itemgetter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kanbatsu.agents.streaming import Outcome, StreamingAgent
from kanbatsu.envs.functional import FunctionalEnvironment
from kanbatsu.envs.vector import EnvironmentFault, VectorEnvironment
from kanbatsu.train.loop import Position, Stopwatch
from kanbatsu.train.stacking import side_by_side
from kanbatsu.train.stream import HostCarry, StreamTurn, compiled_turn, stretches
from kanbatsu.train.stream_scan import Carry, Steps, advance
from kanbatsu.types import Transition

Told = tuple[StreamTurn | Exception, ...]
"""What each member did in a stretch, or why it stopped; it then stays stopped."""


@lru_cache(maxsize=8)
def _programs(agent: StreamingAgent, structure: Any) -> tuple[Any, Any]:
    """Compile the draws of a stretch, and one decision of every member, on leaves."""

    @partial(jax.jit, static_argnums=2)
    def draw(keys: jax.Array, begin: jax.Array, decisions: int) -> Any:
        each = jax.vmap(lambda key: agent.noise(jax.random.fold_in(key, begin), decisions))(keys)
        return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), each)  # decisions first

    @partial(jax.jit, donate_argnums=0)
    def learn(leaves: list[jax.Array], outcome: Outcome, noise: Any) -> tuple[list[jax.Array], Any]:
        state, action = jax.vmap(agent.step)(jax.tree.unflatten(structure, leaves), outcome, noise)
        return jax.tree.leaves(state), action

    return draw, learn


def members_host(
    agent: StreamingAgent,
    environments: Sequence[VectorEnvironment],
    *,
    env_steps: int,
    stretch: int,
    seeds: Sequence[int],
    carries: Sequence[HostCarry],
    obs: Sequence[np.ndarray],
    position: Position = Position(),  # noqa: B008
    watches: Sequence[Stopwatch] = (),
) -> Iterator[Told]:
    """Train until `env_steps`, each member in a simulator of its own that is stepped in turn.

    Args:
        agent: what acts and learns.
        environments: one per member, of one environment each.
        env_steps: simulator steps (before action repeat) at which to stop.
        stretch: decisions per turn.
        seeds: of exploration.
        carries: each member's state, and the action that it has chosen.
        obs: what each environment showed last, `[1, obs_dim]`.
        position: where all of them begin.
        watches: book the time spent in environments and in learning, each for its member.

    Yields:
        For each member its turn. One whose environment failed is stepped no more.
    """
    keys = jnp.stack([jax.random.key(seed) for seed in seeds])
    state, apart = side_by_side([each.state for each in carries])
    leaves, structure = jax.tree.flatten(state)
    draw, learn = _programs(agent, structure)  # type: ignore[arg-type]  # agents hash
    action = np.stack([np.asarray(each.action) for each in carries])
    members = len(environments)
    last: Any = np.concatenate(obs)
    failed: list[Exception | None] = [None] * members
    repeat = environments[0].action_repeat
    for begin, decisions in stretches(env_steps, repeat, stretch, position):
        noise, rows = jax.tree.flatten(
            jax.tree.map(np.asarray, draw(keys, np.int32(begin), decisions))
        )
        seen = _room(decisions, members, last, action)
        episodes: list[list[Any]] = [[] for _ in range(members)]
        world = learning = 0.0
        for index in range(decisions):
            started = time.perf_counter()
            now = jax.tree.map(itemgetter(index), seen)
            now.obs[:], now.action[:] = last, action
            last = last.copy()
            for member, environment in enumerate(environments):
                if failed[member] is not None:
                    continue
                try:
                    step = environment.step(action[member][None])
                except EnvironmentFault as fault:
                    failed[member] = fault
                    continue
                now.reward[member] = step.reward[0]
                now.terminated[member] = step.terminated[0]
                now.truncated[member] = step.truncated[0]
                now.next_obs[member], last[member] = step.next_obs[0], step.obs[0]
                done = (begin + index + 1) * repeat
                episodes[member] += [(done, episode) for episode in step.episodes]
            learned = time.perf_counter()
            outcome = Outcome(now.reward, now.terminated, now.truncated, now.next_obs, last)
            leaves, chosen = learn(
                leaves, outcome, jax.tree.unflatten(rows, [x[index] for x in noise])
            )
            action = np.asarray(chosen)
            world, learning = world + learned - started, learning + time.perf_counter() - learned
        for watch in watches:
            watch.book("environment", world)
            watch.update_milliseconds.append(1e3 * watch.book("update", learning) / decisions)
        done = begin + decisions
        states = apart(jax.tree.unflatten(structure, leaves))
        yield tuple(
            failed[member]
            or StreamTurn(
                env_steps=done * repeat,
                position=Position(done, done),
                carry=HostCarry(state, action[member]),
                episodes=tuple(episodes[member]),
                transitions=jax.tree.map(itemgetter((slice(None), member)), seen),
                metrics=agent.metrics(state),
            )
            for member, state in enumerate(states)
        )


def _room(decisions: int, members: int, obs: np.ndarray, action: np.ndarray) -> Transition:
    """Return arrays `[decisions, members, ...]` to write a stretch into."""
    of = {"obs": obs, "next_obs": obs, "action": action}
    rest = {"reward": np.float32, "terminated": np.bool_, "truncated": np.bool_}
    return Transition(
        **{name: np.zeros((decisions, *x.shape), np.float32) for name, x in of.items()},
        **{name: np.zeros((decisions, members), dtype) for name, dtype in rest.items()},
    )


@partial(jax.jit, static_argnums=(0, 1, 4), donate_argnums=2)
def _advance(
    agent: StreamingAgent,
    environment: FunctionalEnvironment,
    carry: Carry,
    keys: jax.Array,
    decisions: int,
) -> tuple[Carry, Steps]:
    return jax.vmap(lambda each, key: advance(agent, environment, each, key, decisions))(
        carry, keys
    )


def members_compiled(
    agent: StreamingAgent,
    environment: FunctionalEnvironment,
    *,
    env_steps: int,
    stretch: int,
    seeds: Sequence[int],
    carries: Sequence[Carry],
    position: Position = Position(),  # noqa: B008
    watches: Sequence[Stopwatch] = (),
) -> Iterator[Told]:
    """Train until `env_steps` in a functional environment: one compiled call per stretch.

    Args: as for `members_host`.

    Yields:
        For each member its turn. One that is no longer finite has stopped; the others go on.
    """
    keys = jnp.stack([jax.random.key(seed) for seed in seeds])
    carry, apart = side_by_side(carries)
    failed: dict[int, Exception] = {}
    for begin, decisions in stretches(env_steps, 1, stretch, position):
        started = time.perf_counter()
        now = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, begin)
        carry, steps = _advance(agent, environment, carry, now, decisions)
        host = jax.tree.map(np.asarray, steps)
        spent = time.perf_counter() - started
        for watch in watches:
            watch.update_milliseconds.append(1e3 * watch.book("update", spent) / decisions)
        turns: list[StreamTurn | Exception] = []
        for member, each in enumerate(apart(carry)):
            if member not in failed:
                own = jax.tree.map(itemgetter(member), host)
                try:
                    turns.append(compiled_turn(agent, each, own, begin))
                    continue
                except FloatingPointError as error:
                    failed[member] = error
            turns.append(failed[member])
        yield tuple(turns)
