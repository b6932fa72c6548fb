"""Words that every room shares: key, transition, what an environment looks like, agent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
from jaxtyping import Array, Bool, Float

Key = jax.Array
"""A typed JAX random key, as `jax.random.key` makes it."""


class Transition(NamedTuple):
    """What one decision led to, for `n` decisions at once.

    `terminated` means that the world ended (no future reward, do not bootstrap); `truncated` means
    that the episode was cut off, by a time limit say (bootstrap from `next_obs`). `next_obs` is
    always the true successor, never the first observation of the next episode.
    """

    obs: Float[Any, "n obs_dim"]
    action: Float[Any, "n action_dim"]
    reward: Float[Any, " n"]
    terminated: Bool[Any, " n"]
    truncated: Bool[Any, " n"]
    next_obs: Float[Any, "n obs_dim"]


@dataclass(frozen=True)
class Spec:
    """What an agent must know of an environment before it sees it."""

    obs_dim: int
    """Length of the flat float32 observation."""
    action_dim: int
    """Length of the action; agents act in [-1, 1], the environment rescales."""
    episode_length: int | None
    """Decisions until the time limit cuts an episode off; None where there is no limit."""


@runtime_checkable
class Agent(Protocol):
    """A learning algorithm: pure functions on a state; every random draw comes from the key given.

    An agent holds its configuration and nothing that changes. Metrics are scalars that stay on the
    device until somebody reads them.
    """

    spec: Spec
    passes: Mapping[str, int]
    """Products with each kernel of a network per update and sample."""

    def masks(self, key: Key) -> Any:
        """Draw the masks that `init` draws for this key, on the host."""
        ...

    def init(self, key: Key, masks: Any = None) -> Any:
        """Draw the networks, prune them once, and return the whole training state.

        With masks given, this is a pure function: `jax.vmap(agent.init)(keys, stacked_masks)`.
        """
        ...

    def act(
        self, state: Any, obs: Float[Array, "n obs_dim"], key: Key
    ) -> tuple[Any, Float[Array, "n action_dim"]]:
        """Explore: record the observations in the normaliser and draw actions in [-1, 1]."""
        ...

    def act_greedy(
        self, state: Any, obs: Float[Array, "n obs_dim"]
    ) -> Float[Array, "n action_dim"]:
        """Act as in evaluation: no noise, and the state does not move."""
        ...

    def update(
        self, state: Any, batches: Transition, key: Key
    ) -> tuple[Any, Mapping[str, Float[Array, ""]]]:
        """Learn from `k` batches in turn (arrays `[k, batch, ...]`); metrics are of the last."""
        ...

    def probe(self, state: Any, batch: Transition, key: Key) -> Mapping[str, Float[Array, ""]]:
        """Measure the health of the networks on one batch; names are `network/probe[/layer]`."""
        ...

    def networks(self, state: Any) -> Mapping[str, Any]:
        """Return the trained networks by name, for counting and export."""
        ...
