"""How an agent with a replay meets the loop on the host: remember, and learn from batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

import jax
import numpy as np

from kanbatsu.train.stacking import SideBySide, lift
from kanbatsu.train.threads import Threads
from kanbatsu.train.turn import Position, not_finite
from kanbatsu.types import Agent, Key, Transition, all_finite


@lru_cache(maxsize=8)
def _programs(agent: Agent, members: int) -> tuple[Any, Any]:
    """Compile a decision and an update of every member."""

    def act(state: Any, obs: jax.Array, key: Key, count: jax.Array) -> tuple[Any, jax.Array]:
        return agent.act(state, obs, jax.random.fold_in(key, count))

    def learn(
        state: Any, batches: Transition, key: Key, count: jax.Array
    ) -> tuple[Any, Mapping[str, jax.Array], jax.Array]:
        state, metrics = agent.update(state, batches, jax.random.fold_in(key, count))
        return state, metrics, all_finite(metrics)

    axes = (0, 0, 0, None)
    # The old state is given away: its buffers are reused instead of copied.
    return jax.jit(lift(act, members, axes)), jax.jit(lift(learn, members, axes), donate_argnums=0)


class ReplayLearner:
    """Members that learn from replays, side by side.

    Args:
        members: Their parts.
        env_steps: At which they stop; not read.
        drawing: Threads in which batches are drawn.
    """

    def __init__(self, members: Sequence[Any], env_steps: int, drawing: Threads) -> None:
        self._members, self._drawing = members, drawing
        self._schedule, self.position = members[0].schedule, members[0].position
        self._side = SideBySide([member.state for member in members])
        keys = [jax.random.split(jax.random.key(member.seed)) for member in members]
        self._act_key, self._update_key = map(self._side.join, zip(*keys, strict=True))
        self._act, self._update = _programs(members[0].agent, len(members))
        self._metrics: Any = None

    @staticmethod
    def start(agent: Agent, obs: np.ndarray, seed: int) -> tuple[Any, np.ndarray]:
        """Initialise an agent; it chooses no action before it is asked."""
        return agent.init(jax.random.key(seed)), np.zeros(0, np.float32)

    def act(self, seen: np.ndarray) -> np.ndarray:
        """Choose an action for `seen`, `[members, n, *obs]`; at random while the replay fills."""
        interactions = self.position.interactions
        self._rngs = [np.random.default_rng([each.seed, interactions]) for each in self._members]
        self._side.tree, chosen = self._act(
            self._side.tree, self._side.take(seen), self._act_key, np.int32(interactions)
        )
        actions = np.array(self._side.give(chosen))
        if interactions < self._schedule.warmup_interactions:
            for member, rng in enumerate(self._rngs):
                actions[member] = rng.uniform(-1.0, 1.0, actions[member].shape)
        return actions

    def learn(
        self, transition: Transition, obs: np.ndarray, faults: list[Exception | None]
    ) -> Position:
        """Remember `[members, n, ...]`, and learn once the replay holds enough.

        Args:
            transition: what the last actions led to.
            obs: what is acted on next; not read.
            faults: of members that have stopped; those that diverge are added.
        """
        going = [index for index, fault in enumerate(faults) if fault is None]
        for index in going:
            self._members[index].past.add(Transition(*(x[index] for x in transition)))
        n = transition.reward.shape[1]
        interactions, updates = self.position.interactions + n, self.position.updates
        self._metrics = None
        if going and interactions >= self._schedule.warmup_interactions:
            more = self._schedule.updates_per_interaction * n
            drawn = self._drawing.map(partial(self._draw, faults, more))
            # A member that has stopped learns from another's batches, and nobody looks.
            filled = [batches or drawn[going[0]] for batches in drawn]
            batches = Transition(*(self._side.stack(x) for x in zip(*filled, strict=True)))
            self._side.tree, self._metrics, finite = self._update(
                self._side.tree, batches, self._update_key, np.int32(updates)
            )
            updates += more
            if not np.asarray(finite).all():
                self._fail(faults, interactions)
        self.position = Position(interactions, updates)
        return self.position

    def settle(self) -> None:
        """Hand every member its state and the metrics of the latest update."""
        host = None if self._metrics is None else jax.device_get(self._metrics)
        for index, (member, state) in enumerate(
            zip(self._members, self._side.apart(), strict=True)
        ):
            member.state, member.position = state, self.position
            member.metrics = host and {name: self._side.give(x)[index] for name, x in host.items()}

    def _draw(self, faults: list[Exception | None], batches: int, index: int) -> Any:
        if faults[index] is not None:
            return None
        size = self._schedule.batch_size
        return self._members[index].past.sample(self._rngs[index], batches, size)

    def _fail(self, faults: list[Exception | None], interactions: int) -> None:
        """Stop the members whose metrics are not finite."""
        at = interactions * self._members[0].environments.action_repeat
        for index, fault in enumerate(faults):
            unfit = [
                name
                for name, x in self._metrics.items()
                if not np.isfinite(self._side.give(np.asarray(x))[index])
            ]
            if unfit and fault is None:
                faults[index] = not_finite(", ".join(unfit), at)
