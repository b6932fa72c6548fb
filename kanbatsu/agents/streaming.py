"""What agents that learn from a stream share: what they are told, and how they see it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from kanbatsu.agents.obgd import bounded_step
from kanbatsu.nn.welford import STREAM_EPSILON, Welford
from kanbatsu.types import Key, Spec, Transition

Scalar = Float[Array, ""]

MEMORY = 1_000
"""Interactions over which the metrics of a stream are averaged, with exponentially less weight."""


class Outcome(NamedTuple):
    """Outcome of the last interaction: the only sample that there is, and it comes once."""

    reward: Float[Array, ""]
    terminated: Bool[Array, ""]
    truncated: Bool[Array, ""]
    next_obs: Float[Array, " obs_dim"]
    """The true successor."""
    obs: Float[Array, " obs_dim"]
    """Observation to act on next: the successor, or the first of a new episode."""


@runtime_checkable
class StreamingAgent(Protocol):
    """An algorithm without replay and batch: pure functions on a state, one interaction at a time.

    The state remembers what the agent saw and did last. `noise` holds the random draws of one
    interaction, made beforehand for many.
    """

    spec: Spec
    passes: Mapping[str, int]
    """Products with each kernel of a network per interaction."""

    def masks(self, key: Key) -> Any:
        """Draw the masks that `init` draws for this key, on the host."""
        ...

    def init(self, key: Key, masks: Any = None) -> Any:
        """Draw the networks, prune them once, and return the whole training state.

        With masks given, this is a pure function: `jax.vmap(agent.init)(keys, stacked_masks)`.
        """
        ...

    def noise(self, key: Key, interactions: int) -> Any:
        """Make the random draws of many interactions; every array begins with that axis."""
        ...

    def begin(self, state: Any, obs: Float[Array, " obs_dim"], noise: Any) -> tuple[Any, Array]:
        """Look at the first observation of all and choose an action."""
        ...

    def step(self, state: Any, outcome: Outcome, noise: Any) -> tuple[Any, Array]:
        """Learn from what the last action led to, once, and choose the next one."""
        ...

    def act_greedy(self, state: Any, obs: Float[Array, "n obs_dim"]) -> Array:
        """Act as in evaluation: nothing is drawn, and the state does not move."""
        ...

    def metrics(self, state: Any) -> Mapping[str, Scalar]:
        """Return averages over about the last `MEMORY` interactions."""
        ...

    def probe(self, state: Any, batch: Transition, key: Key) -> Mapping[str, Scalar]:
        """Measure the networks on past transitions, which are kept for measuring only."""
        ...

    def networks(self, state: Any) -> Mapping[str, Any]:
        """Return the trained networks by name."""
        ...


class Senses(eqx.Module):
    r"""Observations and rewards, scaled by what has been seen so far.

    An observation becomes $(s - \mu) / \sqrt{\sigma^2 + \epsilon}$; its last entry stays as it is
    if it is the time of `kanbatsu.envs.timed`. A reward is divided by the standard deviation of its
    discounted sum since the episode began, $u \leftarrow \gamma u + r$.

    Example:
        >>> senses, seen = Senses.new(2, timed=True).see(jnp.array([3.0, -0.5]))
        >>> seen
        Array([ 0. , -0.5], dtype=float32)
    """

    statistics: Welford
    reward_statistics: Welford
    reward_sum: Scalar
    timed: bool = eqx.field(static=True)

    @classmethod
    def new(cls, obs_dim: int, timed: bool) -> Senses:
        """Start with nothing seen."""
        return cls(Welford.empty((obs_dim - timed,)), Welford.empty(()), jnp.float32(0.0), timed)

    def see(self, obs: Float[Array, " obs_dim"]) -> tuple[Senses, Float[Array, " obs_dim"]]:
        """Record an observation and return it scaled."""
        raw = obs[:-1] if self.timed else obs
        senses = eqx.tree_at(lambda s: s.statistics, self, self.statistics.record(raw))
        return senses, senses.scale(obs)

    def scale(self, obs: Float[Array, "*batch obs_dim"]) -> Float[Array, "*batch obs_dim"]:
        """Scale observations without recording them."""
        if not self.timed:
            return self.statistics.standardise(obs)
        return jnp.concatenate([self.statistics.standardise(obs[..., :-1]), obs[..., -1:]], axis=-1)

    def perceive(
        self, outcome: Outcome, discount: float
    ) -> tuple[Senses, Scalar, Float[Array, " obs_dim"], Float[Array, " obs_dim"]]:
        """Record what an action led to.

        Returns:
            The senses after it; the reward, the successor, and what to act on next, all scaled.

        Raises:
            ValueError: The outcome is of a batch.
        """
        if shape := jnp.shape(outcome.reward):
            raise ValueError(
                f"an agent that learns from a stream takes one sample at a time, not a batch of "
                f"shape {shape}; for several agents side by side, use jax.vmap over their states"
            )
        ended = outcome.terminated | outcome.truncated
        senses, reward = self.feel(outcome.reward, ended, discount)
        senses, successor = senses.see(outcome.next_obs)
        # A new episode begins with an observation of its own, which is seen as well.
        senses, seen = choose(ended, senses.see(outcome.obs), (senses, successor))
        return senses, reward, successor, seen

    def feel(
        self, reward: Scalar, ended: Bool[Array, ""], discount: float
    ) -> tuple[Senses, Scalar]:
        """Record a reward and return it scaled; the sum starts again where the episode ended."""
        total = discount * self.reward_sum + reward
        statistics = self.reward_statistics.record(total)
        senses = eqx.tree_at(
            lambda s: (s.reward_statistics, s.reward_sum),
            self,
            (statistics, jnp.where(ended, 0.0, total)),
        )
        return senses, reward / jnp.sqrt(statistics.variance + STREAM_EPSILON)


def bounded_move(
    config: Any, network: str, trace: Any, td_error: Scalar
) -> tuple[Any, dict[str, Scalar]]:
    """Turn the trace of a network into a bounded step as configured; facts carry its name."""
    kappa = getattr(config, f"{network}_kappa")
    if config.kappa_by_density:
        kappa /= 1.0 - getattr(config, network).sparsity
    move, facts = bounded_step(trace, td_error, learning_rate=config.learning_rate, kappa=kappa)
    return move, {f"{network}_{name}": fact for name, fact in facts.items()}


def choose(condition: Bool[Array, "*n"], yes: Any, no: Any) -> Any:
    """Return one of two trees of the same structure, row by row where there are several conditions.

    Example:
        >>> choose(jnp.array([True, False]), jnp.ones((2, 2)), jnp.zeros((2, 2))).tolist()
        [[1.0, 1.0], [0.0, 0.0]]
    """

    def where(a: Array, b: Array) -> Array:
        return jnp.where(jnp.expand_dims(condition, tuple(range(condition.ndim, a.ndim))), a, b)

    return jax.tree.map(where if condition.ndim else partial(jnp.where, condition), yes, no)


def average(
    means: Mapping[str, Scalar], new: Mapping[str, Scalar], interactions: Array
) -> dict[str, Scalar]:
    """Move averages by one interaction: plain at first, then over about `MEMORY` of them.

    Example:
        >>> average({"x": jnp.float32(5.0)}, {"x": jnp.float32(2.0)}, jnp.int32(1))
        {'x': Array(2., dtype=float32)}
    """
    share = 1.0 / jnp.minimum(interactions, MEMORY).astype(jnp.float32)
    return {name: old + share * (new[name] - old) for name, old in means.items()}
