"""Stream AC(lambda): an actor-critic that learns from every sample once, for continuous actions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from kanbatsu.agents.common import named_health, trainable
from kanbatsu.agents.obgd import cut_trace, extend_trace
from kanbatsu.agents.streaming import Outcome, Senses, average, bounded_move
from kanbatsu.nn.heads import log_prob_and_entropy
from kanbatsu.nn.layers import Linear
from kanbatsu.nn.stream import (
    NormalHead,
    StreamNetwork,
    StreamNetworkConfig,
    make_stream_masks,
    make_stream_network,
)
from kanbatsu.probes.health import network_health
from kanbatsu.ranges import NotNegative, Positive, Share
from kanbatsu.types import Key, Spec, Transition

Scalar = Float[Array, ""]

METRICS = (
    "td_error_magnitude",
    "value",
    "entropy",
    "reward",
    "actor_step_size",
    "actor_trace_norm",
    "critic_step_size",
    "critic_trace_norm",
)


@dataclass(frozen=True)
class StreamACConfig:
    """Stream AC with its published settings."""

    actor: StreamNetworkConfig = field(default_factory=StreamNetworkConfig)
    """The policy network."""
    critic: StreamNetworkConfig = field(default_factory=StreamNetworkConfig)
    """The value network."""
    learning_rate: Positive = 1.0
    """Step size of both networks where the bound does not shorten it."""
    discount: Share = 0.99
    """Discount per interaction."""
    trace_decay: Share = 0.8
    """Lambda: how slowly traces fade, beside the discount."""
    actor_kappa: NotNegative = 3.0
    """Bound on the actor's step: 1 / kappa in all; 0 = no bound."""
    critic_kappa: NotNegative = 2.0
    """Bound on the critic's step: 1 / kappa in all; 0 = no bound."""
    kappa_by_density: bool = False
    """Divide each kappa by the density of its network. A mask shortens the traces' norm, and so
    lengthens the step; this control takes that back."""
    entropy_weight: NotNegative = 0.01
    """Weight of the entropy's gradient, which takes the sign of the TD error."""
    bootstrap_truncated: bool = False
    """Look beyond a time limit. The published protocol does not: it ends there like anywhere."""
    time: bool = True
    """Append the time to the observation: -0.5 at the start of an episode, 0.5 at its limit."""


class StreamACState(eqx.Module):
    """Everything that training changes."""

    actor: StreamNetwork
    critic: StreamNetwork
    actor_trace: Any
    critic_trace: Any
    senses: Senses
    obs: Float[Array, " obs_dim"]
    """Observation that was seen last, scaled."""
    action: Float[Array, " action_dim"]
    """Action that was chosen then, before the environment clipped it."""
    decisions: Int[Array, ""]
    means: dict[str, Scalar]


def value_of(critic: StreamNetwork, obs: Array) -> Float[Array, "*batch"]:
    """V(s)."""
    return critic(obs)[..., 0]


def policy_objective(
    actor: StreamNetwork, obs: Array, action: Array, entropy_weight: Array
) -> tuple[Array, Array]:
    r"""$\log\pi(a|s) + w H(\pi(\cdot|s))$, which rises with a positive TD error; and H."""
    mean, deviation = actor(obs)
    log_prob, entropy = log_prob_and_entropy(mean, deviation, action)
    return log_prob + entropy_weight * entropy, entropy


@dataclass(frozen=True)
class StreamAC:
    """Actor-critic with eligibility traces, ObGD, and neither replay nor batch.

    Example:
        >>> small = StreamNetworkConfig(width=8, sparsity=0.5)
        >>> spec = Spec((4,), action_dim=1, episode_length=100)
        >>> agent = StreamAC(spec, StreamACConfig(small, small))
        >>> state = agent.init(jax.random.key(0))
        >>> state, action = agent.begin(state, jnp.ones(4), noise=jnp.zeros(1))
        >>> action.shape
        (1,)

    Reference:
        Elsayed, Vasan and Mahmood 2024, "Streaming Deep Reinforcement Learning Finally Works",
        arXiv 2410.14606; see docs/stream.md for what differs.
    """

    spec: Spec
    config: StreamACConfig = field(default_factory=StreamACConfig)

    passes = {"actor": 4, "critic": 4}  # noqa: RUF012
    """Products with each kernel per interaction: forward, input and weight gradients, and of the
    actor one to act, of the critic the successor's value."""

    def masks(self, key: Key) -> dict[str, Any]:
        """Draw the masks that `init` draws for this key, on the host."""
        return {name: make_stream_masks(**recipe) for name, recipe in self._recipes(key).items()}

    def init(self, key: Key, masks: Any = None) -> StreamACState:
        """Draw the networks and prune them once; with masks given, a pure function of both."""
        networks = {
            name: make_stream_network(**recipe, masks=None if masks is None else masks[name])
            for name, recipe in self._recipes(key).items()
        }
        traces = jax.tree.map(jnp.zeros_like, trainable(networks))
        return StreamACState(
            actor=networks["actor"],
            critic=networks["critic"],
            actor_trace=traces["actor"],
            critic_trace=traces["critic"],
            senses=Senses.new(self.spec.obs_dim, self.config.time),
            obs=jnp.zeros(self.spec.obs_dim),
            action=jnp.zeros(self.spec.action_dim),
            decisions=jnp.int32(0),
            means={name: jnp.float32(0.0) for name in METRICS},
        )

    def noise(self, key: Key, interactions: int) -> Float[Array, "interactions action_dim"]:
        """Draw the standard normal noise of many interactions."""
        return jax.random.normal(key, (interactions, self.spec.action_dim))

    def begin(self, state: StreamACState, obs: Array, noise: Array) -> tuple[StreamACState, Array]:
        """Look at the first observation of all and sample an action."""
        return self._act(state, *state.senses.see(obs), noise)

    def step(
        self, state: StreamACState, outcome: Outcome, noise: Array
    ) -> tuple[StreamACState, Array]:
        """Learn from what the last action led to, once, and sample the next one."""
        senses, reward, successor, seen = state.senses.perceive(outcome, self.config.discount)
        state = self.learn(state, reward, outcome.terminated, outcome.truncated, successor)
        return self._act(state, senses, seen, noise)

    def learn(
        self,
        state: StreamACState,
        reward: Scalar,
        terminated: Array,
        truncated: Array,
        successor: Array,
    ) -> StreamACState:
        """Move both networks by the TD error of one sample, computed before either moves.

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
        decay = config.discount * config.trace_decay

        value, critic_gradient = eqx.filter_value_and_grad(value_of)(state.critic, state.obs)
        next_value = jnp.where(last, 0.0, value_of(state.critic, successor))
        td_error = reward + config.discount * next_value - value
        (_, entropy), actor_gradient = eqx.filter_value_and_grad(policy_objective, has_aux=True)(
            state.actor, state.obs, state.action, config.entropy_weight * jnp.sign(td_error)
        )
        actor_trace = extend_trace(state.actor_trace, actor_gradient, decay)
        critic_trace = extend_trace(state.critic_trace, critic_gradient, decay)
        actor_move, actor_facts = bounded_move(config, "actor", actor_trace, td_error)
        critic_move, critic_facts = bounded_move(config, "critic", critic_trace, td_error)
        new = {
            "td_error_magnitude": jnp.abs(td_error),
            "value": value,
            "entropy": entropy,
            "reward": reward,
            **actor_facts,
            **critic_facts,
        }
        return StreamACState(
            actor=eqx.apply_updates(state.actor, actor_move),
            critic=eqx.apply_updates(state.critic, critic_move),
            actor_trace=cut_trace(actor_trace, ended),
            critic_trace=cut_trace(critic_trace, ended),
            senses=state.senses,
            obs=state.obs,
            action=state.action,
            decisions=state.decisions + 1,
            means=average(state.means, new, state.decisions + 1),
        )

    def act_greedy(self, state: StreamACState, obs: Array) -> Array:
        """Return the policy's mean, clipped."""
        mean, _ = state.actor(state.senses.scale(obs))
        return jnp.clip(mean, -1.0, 1.0)

    def metrics(self, state: StreamACState) -> Mapping[str, Scalar]:
        """Return averages over about the last thousand interactions."""
        return state.means

    def probe(self, state: StreamACState, batch: Transition, key: Key) -> dict[str, Scalar]:
        """Measure both networks on past transitions; gradients are averaged over them."""
        obs, next_obs = state.senses.scale(batch.obs), state.senses.scale(batch.next_obs)
        value = value_of(state.critic, obs)
        scale = jnp.sqrt(state.senses.reward_statistics.variance)
        next_value = jnp.where(batch.terminated, 0.0, value_of(state.critic, next_obs))
        td_error = batch.reward / scale + self.config.discount * next_value - value
        critic_gradient = eqx.filter_grad(lambda c: (td_error * value_of(c, obs)).mean())(
            state.critic
        )
        weight = self.config.entropy_weight * jnp.sign(td_error)
        actor_gradient = eqx.filter_grad(
            lambda a: (td_error * policy_objective(a, obs, batch.action, weight)[0]).mean()
        )(state.actor)
        return named_health(
            actor=network_health(state.actor, actor_gradient, *state.actor.encode(obs)),
            critic=network_health(state.critic, critic_gradient, *state.critic.encode(obs)),
        )

    def networks(self, state: StreamACState) -> Mapping[str, Any]:
        """Return the actor and the critic."""
        return {"actor": state.actor, "critic": state.critic}

    def _recipes(self, key: Key) -> dict[str, dict[str, Any]]:
        """Return what each network is made of."""
        actor_key, critic_key = jax.random.split(key)
        policy = partial(NormalHead, action_dim=self.spec.action_dim)
        value = partial(Linear, outputs=1)
        return {
            "actor": self._recipe(self.config.actor, policy, actor_key),
            "critic": self._recipe(self.config.critic, value, critic_key),
        }

    def _recipe(self, config: StreamNetworkConfig, make_head: Any, key: Key) -> dict[str, Any]:
        inputs = self.spec.obs_dim
        return {"config": config, "inputs": inputs, "make_head": make_head, "key": key}

    def _act(
        self, state: StreamACState, senses: Senses, seen: Array, noise: Array
    ) -> tuple[StreamACState, Array]:
        """Sample an action for what is seen; the state keeps it as it was before clipping."""
        mean, deviation = state.actor(seen)
        action = mean + deviation * noise
        state = eqx.tree_at(lambda s: (s.senses, s.obs, s.action), state, (senses, seen, action))
        return state, jnp.clip(action, -1.0, 1.0)
