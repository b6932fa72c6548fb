"""Stream Q(lambda): Q-learning from every sample once, for discrete actions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from kanbatsu.agents.common import named_health, trainable
from kanbatsu.agents.obgd import cut_trace, extend_trace
from kanbatsu.agents.streaming import Outcome, Senses, average, bounded_move
from kanbatsu.nn.layers import Linear
from kanbatsu.nn.stream import (
    StreamNetwork,
    StreamNetworkConfig,
    make_stream_masks,
    make_stream_network,
)
from kanbatsu.probes.health import network_health
from kanbatsu.ranges import Natural, NotNegative, Positive, Share
from kanbatsu.types import Key, Spec, Transition

Scalar = Float[Array, ""]

METRICS = (
    "td_error_magnitude",
    "value",
    "reward",
    "exploration",
    "critic_step_size",
    "critic_trace_norm",
)


@dataclass(frozen=True)
class StreamQConfig:
    """Stream Q with its published settings for classic control."""

    critic: StreamNetworkConfig = field(default_factory=lambda: StreamNetworkConfig(width=32))
    """The network of action values."""
    learning_rate: Positive = 1.0
    """Step size where the bound does not shorten it."""
    discount: Share = 0.99
    """Discount per interaction."""
    trace_decay: Share = 0.8
    """Lambda: how slowly traces fade, beside the discount."""
    critic_kappa: NotNegative = 2.0
    """Bound on the step: 1 / kappa in all; 0 = no bound."""
    kappa_by_density: bool = False
    """Divide kappa by the density of the network. A mask shortens the trace's norm, and so
    lengthens the step; this control takes that back."""
    exploration_start: Share = 1.0
    """Share of random actions at first."""
    exploration_end: Share = 0.01
    """Share of random actions once `exploration_decisions` are over."""
    exploration_decisions: Natural = 100_000
    """Interactions over which the share falls from start to end, in a line."""
    bootstrap_truncated: bool = False
    """Look beyond a time limit. The published protocol does not: it ends there like anywhere."""
    time: bool = True
    """Append the time to the observation: -0.5 at the start of an episode, 0.5 at its limit."""


class StreamQState(eqx.Module):
    """Everything that training changes."""

    critic: StreamNetwork
    critic_trace: Any
    senses: Senses
    obs: Float[Array, " obs_dim"]
    """Observation that was seen last, scaled."""
    action: Int[Array, ""]
    """Action that was chosen then."""
    greedy: Bool[Array, ""]
    """Flag of an action that was the best one known."""
    decisions: Int[Array, ""]
    means: dict[str, Scalar]


class Draws(NamedTuple):
    """The random draws of interactions."""

    explore: Float[Array, "*interactions"]
    """Uniform in [0, 1)."""
    action: Int[Array, "*interactions"]
    """Any action."""


def value_of(critic: StreamNetwork, obs: Array, action: Array) -> Scalar:
    """Q(s, a)."""
    return critic(obs)[action]


@dataclass(frozen=True)
class StreamQ:
    """Watkins's Q(lambda) with ObGD, and neither replay nor batch.

    Actions go to the environment one-hot: `spec.action_dim` is the number of actions.

    Example:
        >>> config = StreamQConfig(StreamNetworkConfig(width=8, sparsity=0.5))
        >>> agent = StreamQ(Spec((5,), action_dim=2, episode_length=500), config)
        >>> state = agent.init(jax.random.key(0))
        >>> draws = Draws(jnp.float32(0.0), jnp.int32(1))
        >>> state, action = agent.begin(state, jnp.ones(5), draws)
        >>> action
        Array([0., 1.], dtype=float32)

    Reference:
        Elsayed, Vasan and Mahmood 2024, "Streaming Deep Reinforcement Learning Finally Works",
        arXiv 2410.14606; Watkins 1989, "Learning from Delayed Rewards"; see docs/stream.md.
    """

    spec: Spec
    config: StreamQConfig = field(default_factory=StreamQConfig)

    passes = {"critic": 5}  # noqa: RUF012
    """Products with each kernel per interaction: the successor's values; forward, input and weight
    gradients; the values to act on."""

    def masks(self, key: Key) -> dict[str, Any]:
        """Draw the masks that `init` draws for this key, on the host."""
        return {"critic": make_stream_masks(**self._recipe(key))}

    def init(self, key: Key, masks: Any = None) -> StreamQState:
        """Draw the network and prune it once; with masks given, a pure function of both."""
        critic = make_stream_network(**self._recipe(key), masks=masks and masks["critic"])
        return StreamQState(
            critic=critic,
            critic_trace=jax.tree.map(jnp.zeros_like, trainable(critic)),
            senses=Senses.new(self.spec.obs_dim, self.config.time),
            obs=jnp.zeros(self.spec.obs_dim),
            action=jnp.int32(0),
            greedy=jnp.bool_(True),
            decisions=jnp.int32(0),
            means={name: jnp.float32(0.0) for name in METRICS},
        )

    def noise(self, key: Key, interactions: int) -> Draws:
        """Draw whether to explore, and with which action, for many interactions."""
        explore_key, action_key = jax.random.split(key)
        return Draws(
            jax.random.uniform(explore_key, (interactions,)),
            jax.random.randint(action_key, (interactions,), 0, self.spec.action_dim),
        )

    def begin(self, state: StreamQState, obs: Array, noise: Draws) -> tuple[StreamQState, Array]:
        """Look at the first observation of all and choose an action."""
        return self._act(state, *state.senses.see(obs), noise)

    def step(
        self, state: StreamQState, outcome: Outcome, noise: Draws
    ) -> tuple[StreamQState, Array]:
        """Learn from what the last action led to, once, and choose the next one."""
        senses, reward, successor, seen = state.senses.perceive(outcome, self.config.discount)
        state = self.learn(state, reward, outcome.terminated, outcome.truncated, successor)
        return self._act(state, senses, seen, noise)

    def learn(
        self,
        state: StreamQState,
        reward: Scalar,
        terminated: Array,
        truncated: Array,
        successor: Array,
    ) -> StreamQState:
        """Move the network by the TD error of one sample, computed before it moves.

        Args:
            state: holds what was seen and done last.
            reward: scaled.
            terminated: whether the world ended.
            truncated: whether the episode was cut off.
            successor: the next observation, scaled.
        """
        config = self.config
        ended = terminated | truncated
        last = terminated if config.bootstrap_truncated else ended

        value, gradient = eqx.filter_value_and_grad(value_of)(state.critic, state.obs, state.action)
        next_value = jnp.where(last, 0.0, state.critic(successor).max())
        td_error = reward + config.discount * next_value - value
        trace = extend_trace(state.critic_trace, gradient, config.discount * config.trace_decay)
        move, facts = bounded_move(config, "critic", trace, td_error)
        new = {
            "td_error_magnitude": jnp.abs(td_error),
            "value": value,
            "reward": reward,
            "exploration": 1.0 - state.greedy.astype(jnp.float32),
            **facts,
        }
        return StreamQState(
            critic=eqx.apply_updates(state.critic, move),
            critic_trace=cut_trace(trace, ended | ~state.greedy),
            senses=state.senses,
            obs=state.obs,
            action=state.action,
            greedy=state.greedy,
            decisions=state.decisions + 1,
            means=average(state.means, new, state.decisions + 1),
        )

    def act_greedy(self, state: StreamQState, obs: Array) -> Array:
        """Return the best action known, one-hot."""
        best = state.critic(state.senses.scale(obs)).argmax(axis=-1)
        return jax.nn.one_hot(best, self.spec.action_dim)

    def metrics(self, state: StreamQState) -> Mapping[str, Scalar]:
        """Return averages over about the last thousand interactions."""
        return state.means

    def probe(self, state: StreamQState, batch: Transition, key: Key) -> dict[str, Scalar]:
        """Measure the network on past transitions; the gradient is averaged over them."""
        obs, next_obs = state.senses.scale(batch.obs), state.senses.scale(batch.next_obs)
        scale = jnp.sqrt(state.senses.reward_statistics.variance)
        best = state.critic(next_obs).max(axis=-1)
        target = batch.reward / scale + self.config.discount * jnp.where(
            batch.terminated, 0.0, best
        )
        td_error = target - (state.critic(obs) * batch.action).sum(axis=-1)
        gradient = eqx.filter_grad(
            lambda critic: (td_error * (critic(obs) * batch.action).sum(axis=-1)).mean()
        )(state.critic)
        return named_health(
            critic=network_health(state.critic, gradient, *state.critic.encode(obs))
        )

    def networks(self, state: StreamQState) -> Mapping[str, Any]:
        """Return the network of action values."""
        return {"critic": state.critic}

    def _recipe(self, key: Key) -> dict[str, Any]:
        """Return what the network is made of."""
        return {
            "config": self.config.critic,
            "inputs": self.spec.obs_dim,
            "make_head": partial(Linear, outputs=self.spec.action_dim),
            "key": key,
        }

    def _act(
        self, state: StreamQState, senses: Senses, seen: Array, noise: Draws
    ) -> tuple[StreamQState, Array]:
        """Choose an action for what is seen: at random for a share that falls with time."""
        config = self.config
        done = jnp.minimum(state.decisions.astype(jnp.float32) / config.exploration_decisions, 1.0)
        share = config.exploration_start + done * (
            config.exploration_end - config.exploration_start
        )
        values = state.critic(seen)
        action = jnp.where(noise.explore < share, noise.action, values.argmax().astype(jnp.int32))
        state = eqx.tree_at(
            lambda s: (s.senses, s.obs, s.action, s.greedy),
            state,
            (senses, seen, action, values[action] >= values.max()),
        )
        return state, jax.nn.one_hot(action, self.spec.action_dim)
