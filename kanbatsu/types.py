"""Words that every room that trains shares: key, transition, agent; and what an agent sees."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
from jaxtyping import Array, Bool, Float, Num

from kanbatsu.spec import Spec as Spec

Key = jax.Array
"""A typed JAX random key, as `jax.random.key` makes it."""


class Transition(NamedTuple):
    """Outcome of one interaction, or of `n` at once.

    `terminated` means that the world ended (no future reward, do not bootstrap); `truncated` means
    that the episode was cut off, by a time limit say (bootstrap from `next_obs`). `next_obs` is
    always the true successor, never the first observation of the next episode.
    """

    obs: Num[Any, "n *obs"]
    action: Float[Any, "n action_dim"]
    reward: Float[Any, " n"]
    terminated: Bool[Any, " n"]
    truncated: Bool[Any, " n"]
    next_obs: Num[Any, "n *obs"]


class Window(NamedTuple):
    """Outcome of several interactions that followed each other in one episode, of `n` windows.

    A window ends early where its episode does, and where the past does.
    """

    obs: Num[Any, "n *obs"]
    """Observation at its beginning."""
    action: Float[Any, "n action_dim"]
    """Action at its beginning."""
    reward: Float[Any, " n"]
    """Discounted sum of its rewards."""
    discount: Float[Any, " n"]
    """Factor of the value of `next_obs`: the discount to the power of its length; 0 where the
    world ended, and not where the episode was cut off."""
    next_obs: Num[Any, "n *obs"]
    """True successor of its last interaction."""


def all_finite(metrics: Mapping[str, Array]) -> Bool[Array, ""]:
    """Return True where every number is finite.

    Example:
        >>> import jax.numpy as jnp
        >>> bool(all_finite({"loss": jnp.float32(jnp.nan), "reward": jnp.float32(1.0)}))
        False
    """
    return jax.numpy.stack([jax.numpy.isfinite(x).all() for x in metrics.values()]).all()


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
        self, state: Any, obs: Num[Array, "n *obs"], key: Key
    ) -> tuple[Any, Float[Array, "n action_dim"]]:
        """Explore: record the observations in the normaliser and draw actions in [-1, 1]."""
        ...

    def act_greedy(self, state: Any, obs: Num[Array, "n *obs"]) -> Float[Array, "n action_dim"]:
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
