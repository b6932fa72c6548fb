"""Members whose agents act and update: each of the two is one compiled call for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import jax
import numpy as np

from kanbatsu.train.stacking import SideBySide, lift
from kanbatsu.train.turn import Position
from kanbatsu.types import Agent, Key, Transition, Window, all_finite


@lru_cache(maxsize=8)
def _programs(agent: Agent, members: int) -> tuple[Any, Any]:
    """Compile an interaction and an update of every member."""

    def act(state: Any, obs: jax.Array, key: Key, count: jax.Array) -> tuple[Any, jax.Array]:
        return agent.act(state, obs, jax.random.fold_in(key, count))

    def learn(
        state: Any, batches: Any, key: Key, count: jax.Array
    ) -> tuple[Any, Mapping[str, jax.Array], jax.Array]:
        state, metrics = agent.update(state, batches, jax.random.fold_in(key, count))
        return state, metrics, all_finite(metrics)

    axes = (0, 0, 0, None)
    # The old state is given away: its buffers are reused instead of copied.
    return jax.jit(lift(act, members, axes)), jax.jit(lift(learn, members, axes), donate_argnums=0)


class Programs:
    """The states of members side by side, and what moves them.

    Args:
        members: Their parts, equal in `shape`.
    """

    def __init__(self, members: Sequence[Any]) -> None:
        self._members = members
        self._metrics: Any = None
        self._side = SideBySide([member.state for member in members])
        keys = [jax.random.split(jax.random.key(member.seed)) for member in members]
        self._act_key, self._update_key = map(self._side.join, zip(*keys, strict=True))
        self._act, self._update = _programs(members[0].agent, len(members))

    def act(self, seen: np.ndarray, interactions: int) -> np.ndarray:
        """Choose an action for `seen`, `[members, n, *obs]`."""
        self._side.tree, actions = self._act(
            self._side.tree, self._side.take(seen), self._act_key, np.int32(interactions)
        )
        return np.array(self._side.give(actions))

    def update(self, samples: Sequence[Transition | Window], updates: int) -> bool:
        """Learn from what each member is given; returns whether all metrics are finite."""
        stacked = type(samples[0])(*map(self._side.stack, zip(*samples, strict=True)))
        self._side.tree, self._metrics, finite = self._update(
            self._side.tree, stacked, self._update_key, np.int32(updates)
        )
        return bool(np.asarray(finite).all())

    def metrics(self) -> list[Mapping[str, Any] | None]:
        """Return each member's metrics of the latest update, None before the first."""
        host = jax.device_get(self._metrics)
        return [
            host and {name: self._side.give(x)[index] for name, x in host.items()}
            for index in range(len(self._members))
        ]

    def settle(self, position: Position) -> None:
        """Hand every member its state and metrics at a position."""
        parts = zip(self._members, self._side.apart(), self.metrics(), strict=True)
        for member, state, metrics in parts:
            member.state, member.position, member.metrics = state, position, metrics
