"""The loop of `kanbatsu.train.loop` for several agents in lockstep.

They differ in their seeds, and may differ in which of their weights exist.

One compiled program acts for all of them, and one learns. A member is the run that it would be
alone: its draws, its simulators and its replay are its own. Only rounding may differ, because a
product of many members is another program than that of one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kanbatsu.agents.schedule import TrainConfig
from kanbatsu.envs.vector import EnvironmentFault, VectorEnvironment
from kanbatsu.replay import Replay
from kanbatsu.train.loop import Position, Stopwatch, Turn
from kanbatsu.train.stacking import side_by_side
from kanbatsu.train.threads import Threads
from kanbatsu.types import Agent, Key, Transition

Told = tuple[Turn | Exception, ...]
"""What each member did in a turn, or why it stopped; it then stays stopped."""


@lru_cache(maxsize=8)
def _programs(agent: Agent) -> tuple[Any, Any]:
    """Compile a decision and an update of every member."""

    @jax.jit
    def act(states: Any, obs: jax.Array, keys: Key, count: jax.Array) -> tuple[Any, jax.Array]:
        return jax.vmap(
            lambda state, seen, key: agent.act(state, seen, jax.random.fold_in(key, count))
        )(states, obs, keys)

    @partial(jax.jit, donate_argnums=0)
    def update(
        states: Any, batches: Transition, keys: Key, count: jax.Array
    ) -> tuple[Any, Mapping[str, jax.Array]]:
        return jax.vmap(
            lambda state, own, key: agent.update(state, own, jax.random.fold_in(key, count))
        )(states, batches, keys)

    return act, update


def members_replay(
    agent: Agent,
    environments: Sequence[VectorEnvironment],
    replays: Sequence[Replay],
    config: TrainConfig,
    *,
    env_steps: int,
    seeds: Sequence[int],
    states: Sequence[Any],
    obs: Sequence[np.ndarray],
    wanted: Callable[[int], bool],
    position: Position = Position(),  # noqa: B008
    watches: Sequence[Stopwatch] = (),
) -> Iterator[Told]:
    """Train until `env_steps`, each member with simulators and a replay of its own.

    Args:
        agent: what acts and learns.
        environments: each member's; stepped in threads where a step takes long.
        replays: each member's.
        config: batch size, updates per interaction, warm-up.
        env_steps: simulator steps (before action repeat) at which to stop.
        seeds: of exploration, batches and update noise.
        states: each member's at `position`.
        obs: what each member's environments showed last, `[n, obs_dim]`.
        wanted: whether states and metrics are looked at, given the env steps; elsewhere turns hold
            None in their place, for taking them apart costs more than a small update.
        position: where all of them begin.
        watches: book the time spent in environments and in updates, each for its member.

    Yields:
        For each member its turn. One whose environment failed is stepped no more.
    """
    members, n = len(environments), len(environments[0])
    split = [jax.random.split(jax.random.key(seed)) for seed in seeds]
    act_keys, update_keys = (jnp.stack([keys[i] for keys in split]) for i in (0, 1))
    act, update = _programs(agent)  # type: ignore[arg-type]  # agents hash
    (stacked, apart), seen = side_by_side(states), np.stack(obs)
    failed: list[Exception | None] = [None] * members
    episodes: list[Any] = [()] * members

    def step(actions: np.ndarray, seen: np.ndarray, member: int) -> None:
        if failed[member] is not None:
            return
        try:
            result = environments[member].step(actions[member])
        except (EnvironmentFault, FloatingPointError) as fault:
            failed[member] = fault
            return
        ends = (result.reward, result.terminated, result.truncated, result.next_obs)
        replays[member].add(Transition(seen[member], actions[member], *ends))
        seen[member], episodes[member] = result.obs, result.episodes

    def draw(rngs: Sequence[np.random.Generator], member: int) -> Transition | None:
        if failed[member] is not None:
            return None
        return replays[member].sample(rngs[member], updates_per_turn, config.batch_size)

    interactions, updates = position
    updates_per_turn = config.updates_per_interaction * n
    with Threads(members) as steps, Threads(members) as draws:
        while interactions * environments[0].action_repeat < env_steps:
            rngs = [np.random.default_rng([seed, interactions]) for seed in seeds]
            stacked, chosen = act(stacked, seen, act_keys, np.int32(interactions))
            actions = np.array(chosen)
            if interactions < config.warmup_interactions:
                for member, rng in enumerate(rngs):
                    actions[member] = rng.uniform(-1.0, 1.0, actions[member].shape)

            started = time.perf_counter()
            seen = seen.copy()
            steps.map(partial(step, actions, seen))
            spent = time.perf_counter() - started
            interactions += n
            done = interactions * environments[0].action_repeat

            metrics: Any = None
            started = time.perf_counter()
            if interactions >= config.warmup_interactions:
                going = [member for member in range(members) if failed[member] is None]
                if not going:
                    yield tuple(fault for fault in failed if fault is not None)
                    return
                drawn = draws.map(partial(draw, rngs))
                # A member that has stopped learns from another's batches, and nobody looks.
                filled = [batches or drawn[going[0]] for batches in drawn]
                batches = Transition(*(np.stack(x) for x in zip(*filled, strict=True)))
                stacked, metrics = update(stacked, batches, update_keys, np.int32(updates))
                jax.block_until_ready(metrics)
                updates += updates_per_turn
            learning = time.perf_counter() - started
            for watch in watches:
                watch.book("environment", spent)
                if metrics is not None:
                    booked = watch.book("update", learning)
                    watch.update_milliseconds.append(1e3 * booked / updates_per_turn)

            look = wanted(done)
            own = apart(stacked) if look else [None] * members
            host = None if metrics is None or not look else jax.device_get(metrics)
            yield tuple(
                failed[member]
                or Turn(
                    env_steps=done,
                    position=Position(interactions, updates),
                    state=own[member],
                    obs=seen[member],
                    episodes=episodes[member],
                    metrics=None if host is None else {name: x[member] for name, x in host.items()},
                )
                for member in range(members)
            )
