"""An agent around another: whatever it does not change, it passes on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
from jaxtyping import Array

from kanbatsu.types import Key, Transition


@dataclass(frozen=True)
class Around:
    """An agent of any kind inside another, which is itself such an agent.

    Loops, populations, checkpoints and probes need not know. A state is a named tuple whose field
    `inner` is that of the agent inside; whoever inherits says how it begins and learns.

    Args:
        agent: The agent inside: with a replay (`kanbatsu.types.Agent`), learning from rollouts, or
            from a stream.
    """

    agent: Any

    @property
    def spec(self) -> Any:
        """What the agent knows of its environment."""
        return self.agent.spec

    @property
    def discount(self) -> float:
        """Discount per interaction."""
        discount: float = self.agent.discount
        return discount

    @property
    def window(self) -> int:
        """Interactions of a window, where the agent learns from windows."""
        window: int = self.agent.window
        return window

    @property
    def passes(self) -> Any:
        """Products with each kernel of a network per update and sample."""
        return self.agent.passes

    def masks(self, key: Key) -> Any:
        """Draw the masks that `init` draws for this key, on the host."""
        return self.agent.masks(key)

    def act(self, state: Any, obs: Array, key: Key) -> tuple[Any, Array]:
        """Explore, as the agent does."""
        inner, action = self.agent.act(state.inner, obs, key)
        return state._replace(inner=inner), action

    def act_greedy(self, state: Any, obs: Array) -> Any:
        """Act as in evaluation."""
        return self.agent.act_greedy(state.inner, obs)

    def noise(self, key: Key, interactions: int) -> tuple[Any, Key]:
        """Make the random draws of many interactions: the agent's, and a key for each."""
        inner, own = jax.random.split(key)
        return self.agent.noise(inner, interactions), jax.random.split(own, interactions)

    def begin(self, state: Any, obs: Array, noise: Any) -> tuple[Any, Array]:
        """Look at the first observation of all and choose an action."""
        inner, action = self.agent.begin(state.inner, obs, noise[0])
        return state._replace(inner=inner), action

    def metrics(self, state: Any) -> Any:
        """Return what the agent tells of its learning."""
        return self.agent.metrics(state.inner)

    def probe(self, state: Any, batch: Transition, key: Key) -> Any:
        """Measure the health of the networks on one batch."""
        return self.agent.probe(state.inner, batch, key)

    def subjects(self, state: Any, batch: Transition, key: Key) -> Any:
        """Return the networks with their losses on one batch."""
        return self.agent.subjects(state.inner, batch, key)

    def value(self, state: Any, obs: Array) -> Any:
        """Return the value of the greedy action, where the agent knows one."""
        return self.agent.value(state.inner, obs)

    def networks(self, state: Any) -> Any:
        """Return the trained networks by name."""
        return self.agent.networks(state.inner)
