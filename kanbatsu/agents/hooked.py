"""An agent whose state something else may change after its updates: weights, masks, moments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from kanbatsu.agents.around import Around
from kanbatsu.types import Key, Transition

AfterUpdate = Callable[[Any, Key], Any]
"""A pure function of an agent's state and a key to the state that training goes on with.

It may change weights, masks, moments and targets, and must leave the structure and shapes of the
state as they are. Masks are leaves of the state, so those that change are `Masked` ones: `Packed`
and `Grouped` weights have no room for other positions."""


class HookedState(NamedTuple):
    """An agent's state, and how often it has learned."""

    inner: Any
    """State of the agent itself."""
    updates: Int[Array, ""]


@dataclass(frozen=True)
class Hooked(Around):
    """An agent of any kind, with `after_update` called on its state every so many updates.

    It is itself such an agent. Kept counts are written down again with each evaluation that finds
    others.

    Args:
        agent: An agent with a replay (`kanbatsu.types.Agent`) or a streaming one.
        after_update: What changes its state.
        every: Updates between two calls; an `update` of several batches counts as many.

    Raises:
        ValueError: `every` is not positive.

    Example:
        >>> from kanbatsu.agents.stream_q import StreamQ, StreamQConfig
        >>> from kanbatsu.envs.classic import CartPole
        >>> agent = Hooked(StreamQ(CartPole.spec, StreamQConfig()), lambda state, key: state, 100)
        >>> int(agent.init(jax.random.key(0)).updates)
        0
    """

    after_update: AfterUpdate
    every: int

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"every must be at least 1 update, not {self.every}")

    def init(self, key: Key, masks: Any = None) -> HookedState:
        """Initialise the agent."""
        return HookedState(self.agent.init(key, masks), jnp.int32(0))

    def update(
        self, state: HookedState, batches: Transition, key: Key
    ) -> tuple[HookedState, Mapping[str, Array]]:
        """Learn from `k` batches in turn; then the state may change."""
        inner, metrics = self.agent.update(state.inner, batches, key)
        return self._after(state, inner, batches.reward.shape[0], key), metrics

    def step(self, state: HookedState, outcome: Any, noise: Any) -> tuple[HookedState, Array]:
        """Learn from one sample and choose the next action; then the state may change."""
        inner, action = self.agent.step(state.inner, outcome, noise[0])
        return self._after(state, inner, 1, noise[1]), action

    def _after(self, state: HookedState, inner: Any, learned: int, key: Key) -> HookedState:
        """Call `after_update` where a multiple of `every` was passed."""
        updates = state.updates + learned
        due = updates // self.every > state.updates // self.every
        hook_key = jax.random.fold_in(key, 0xAF7E)
        inner = jax.lax.cond(due, lambda: self.after_update(inner, hook_key), lambda: inner)
        return HookedState(inner, updates)
