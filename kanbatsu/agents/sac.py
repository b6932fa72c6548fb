"""Soft Actor-Critic: configuration, losses, and the agent from init to update."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from kanbatsu.agents.common import (
    Critics,
    Loss,
    actor_critic_subjects,
    adamw,
    apply_gradient,
    discount_for,
    draw_masks,
    draw_networks,
    health_of,
    in_turn,
    lowest,
    move_towards,
    normalised,
    trainable,
    with_gradient,
)
from kanbatsu.files.tables import ADDED
from kanbatsu.nn.config import CriticConfig, NetworkConfig
from kanbatsu.nn.heads import GaussianHead, sample_tanh_normal
from kanbatsu.nn.network import Network
from kanbatsu.nn.normaliser import Normaliser
from kanbatsu.probes.norms import tree_norm
from kanbatsu.probes.subject import Subject
from kanbatsu.ranges import NotNegative, Positive, Share, Within
from kanbatsu.remedies.records import Remedy
from kanbatsu.remedies.terms import with_terms
from kanbatsu.types import Key, Spec, Transition

Scalar = Float[Array, ""]


@dataclass(frozen=True)
class SACConfig:
    """SAC with SimBa's published settings."""

    actor: NetworkConfig = field(default_factory=lambda: NetworkConfig(width=128, blocks=1))
    """The policy network."""
    critic: CriticConfig = field(default_factory=CriticConfig)
    """The value network."""
    learning_rate: Positive = 1e-4
    """AdamW step size of actor and critic."""
    actor_learning_rate: Positive | None = field(default=None, metadata=ADDED)
    """AdamW step size of the actor, where it is to have its own."""
    critic_learning_rate: Positive | None = field(default=None, metadata=ADDED)
    """AdamW step size of the critic, where it is to have its own."""
    weight_decay: NotNegative = 1e-2
    """AdamW weight decay of actor and critic."""
    temperature: Positive = 0.01
    """Entropy temperature at the start; learned from there."""
    temperature_learning_rate: Positive = 1e-4
    """Adam step size of the log temperature."""
    target_entropy_per_action: float = -0.5
    """Target entropy divided by the length of the action."""
    discount: Share | None = None
    """Discount per interaction; None = from the episode's length, as in TD-MPC2 and SimBa."""
    tau: Annotated[float, Within(1e-6, 1.0)] = 0.005
    """Share of the critic that flows into its target at every update."""


class SACState(eqx.Module):
    """Everything that training changes."""

    actor: Network
    critics: Critics
    targets: Critics
    log_temperature: Scalar
    actor_moments: Any
    critic_moments: Any
    temperature_moments: Any
    normaliser: Normaliser


class Noise(NamedTuple):
    """The standard normal draws of one update, `[batch, action_dim]` each."""

    actor: Float[Array, "batch action_dim"]
    critic: Float[Array, "batch action_dim"]


def actor_loss(
    actor: Network, critics: Critics, temperature: Scalar, obs: Array, noise: Array
) -> tuple[Scalar, dict[str, Scalar]]:
    r"""Mean of $\alpha \log\pi(a|s) - Q(s, a)$ with $a \sim \pi$ (Haarnoja et al. 2018, eq. 7)."""
    mean, log_std = actor(obs)
    action, log_prob = sample_tanh_normal(mean, log_std, noise)
    loss = (temperature * log_prob - lowest(critics, obs, action)).mean()
    return loss, {"entropy": -log_prob.mean(), "action_magnitude": jnp.abs(action).mean()}


def temperature_loss(log_temperature: Scalar, entropy: Scalar, target_entropy: float) -> Scalar:
    r"""$\alpha (\mathcal{H} - \bar{\mathcal{H}})$ (Haarnoja et al. 2018, eq. 18)."""
    return jnp.exp(log_temperature) * (entropy - target_entropy)


def td_target(
    batch: Transition,
    actor: Network,
    targets: Critics,
    temperature: Scalar,
    discount: float,
    noise: Array,
) -> Float[Array, " batch"]:
    r"""$r + \gamma (1 - \text{terminated}) (\bar Q(s', a') - \alpha \log\pi(a'|s'))$."""
    mean, log_std = actor(batch.next_obs)
    action, log_prob = sample_tanh_normal(mean, log_std, noise)
    value = lowest(targets, batch.next_obs, action) - temperature * log_prob
    return batch.reward + discount * jnp.where(batch.terminated, 0.0, value)


def critic_loss(
    critics: Critics, obs: Array, action: Array, target: Array
) -> tuple[Scalar, dict[str, Scalar]]:
    """Mean squared error to the target, summed over the critics."""
    values = [critic(obs, action) for critic in critics]
    loss = sum((((value - target) ** 2).mean() for value in values), start=jnp.float32(0.0))
    return loss, {f"q{index}_mean": value.mean() for index, value in enumerate(values, start=1)}


@dataclass(frozen=True)
class SAC:
    """Maximum-entropy actor-critic with a learned temperature.

    Example:
        >>> small = NetworkConfig(width=8, blocks=1), CriticConfig(width=16, blocks=1, sparsity=0.5)
        >>> agent = SAC(Spec((3,), action_dim=1, episode_length=100), SACConfig(*small))
        >>> state = agent.init(jax.random.key(0))
        >>> agent.act_greedy(state, jnp.ones((5, 3))).shape
        (5, 1)

    Reference:
        Haarnoja et al. 2018, "Soft Actor-Critic Algorithms and Applications"; networks, sizes and
        settings from Lee et al. 2025, "SimBa"; see docs/sac.md for what differs.
    """

    spec: Spec
    config: SACConfig = field(default_factory=SACConfig)
    remedies: tuple[Remedy, ...] = ()
    """Remedies of the run; those that are terms of the optimizer's step are read."""

    passes = {"actor": 4, "critic": 6}  # noqa: RUF012
    """Products with each kernel per update and sample: forward, input and weight gradients."""

    @property
    def discount(self) -> float:
        """Discount per interaction."""
        return discount_for(self.config.discount, self.spec)

    @property
    def target_entropy(self) -> float:
        """The entropy that the temperature steers to."""
        return self.config.target_entropy_per_action * self.spec.action_dim

    def masks(self, key: Key) -> dict[str, Any]:
        """Draw the masks that `init` draws for this key, on the host."""
        return draw_masks(self.config, self.spec, GaussianHead, key)

    def init(self, key: Key, masks: Any = None) -> SACState:
        """Draw the networks, prune them once, and start every target as a copy."""
        actor, critics = draw_networks(self.config, self.spec, GaussianHead, key, masks)
        log_temperature = jnp.float32(math.log(self.config.temperature))
        return SACState(
            actor=actor,
            critics=critics,
            targets=jax.tree.map(jnp.copy, critics),
            log_temperature=log_temperature,
            actor_moments=self._optimizer("actor").init(trainable(actor)),
            critic_moments=self._optimizer("critic").init(trainable(critics)),
            temperature_moments=self._temperature_optimizer().init(log_temperature),
            normaliser=Normaliser.identity(self.spec.obs_dim),
        )

    def act(self, state: SACState, obs: Array, key: Key) -> tuple[SACState, Array]:
        """Record the observations and sample actions from the policy."""
        normaliser = state.normaliser.observe(obs)
        mean, log_std = state.actor(normaliser.normalise(obs))
        action, _ = sample_tanh_normal(mean, log_std, jax.random.normal(key, mean.shape))
        return eqx.tree_at(lambda s: s.normaliser, state, normaliser), action

    def act_greedy(self, state: SACState, obs: Array) -> Array:
        """Return tanh of the policy's mean."""
        mean, _ = state.actor(state.normaliser.normalise(obs))
        return jnp.tanh(mean)

    def update(
        self, state: SACState, batches: Transition, key: Key
    ) -> tuple[SACState, dict[str, Scalar]]:
        """Learn from `k` batches in turn (arrays `[k, batch, ...]`); metrics are of the last."""
        return in_turn(self.learn, self._draw_noise, state, batches, key)

    def learn(
        self, state: SACState, batch: Transition, noise: Noise
    ) -> tuple[SACState, dict[str, Scalar]]:
        """Update once: actor, temperature, critic, target; a function of its arguments alone."""
        batch = normalised(state.normaliser, batch)
        temperature = jnp.exp(state.log_temperature)

        (loss_actor, info), actor_gradient = with_gradient(actor_loss)(
            state.actor, state.critics, temperature, batch.obs, noise.actor
        )
        actor, actor_moments = apply_gradient(
            self._optimizer("actor"), actor_gradient, state.actor_moments, state.actor
        )
        loss_temperature, temperature_gradient = jax.value_and_grad(temperature_loss)(
            state.log_temperature, info["entropy"], self.target_entropy
        )
        log_temperature, temperature_moments = apply_gradient(
            self._temperature_optimizer(),
            temperature_gradient,
            state.temperature_moments,
            state.log_temperature,
        )
        target = td_target(
            batch, actor, state.targets, jnp.exp(log_temperature), self.discount, noise.critic
        )
        (loss_critic, values), critic_gradient = with_gradient(critic_loss)(
            state.critics, batch.obs, batch.action, target
        )
        critics, critic_moments = apply_gradient(
            self._optimizer("critic"), critic_gradient, state.critic_moments, state.critics
        )
        metrics = {
            "actor_loss": loss_actor,
            "actor_gradient_norm": tree_norm(actor_gradient),
            "temperature": temperature,
            "temperature_loss": loss_temperature,
            "temperature_gradient_norm": jnp.abs(temperature_gradient),
            "critic_loss": loss_critic,
            "critic_gradient_norm": tree_norm(critic_gradient),
            "reward_mean": batch.reward.mean(),
        }
        new_state = SACState(
            actor=actor,
            critics=critics,
            targets=move_towards(critics, state.targets, self.config.tau),
            log_temperature=log_temperature,
            actor_moments=actor_moments,
            critic_moments=critic_moments,
            temperature_moments=temperature_moments,
            normaliser=state.normaliser,
        )
        return new_state, metrics | info | values

    def probe(self, state: SACState, batch: Transition, key: Key) -> dict[str, Scalar]:
        """Measure actor and critics on one batch; of several critics, the first."""
        return health_of(self.subjects(state, batch, key))

    def subjects(self, state: SACState, batch: Transition, key: Key) -> dict[str, Subject]:
        """Return the actor and, of several critics, the first, with their losses on one batch."""
        losses = self.losses(state, batch, key)
        return actor_critic_subjects(state, normalised(state.normaliser, batch), losses)

    def losses(self, state: SACState, batch: Transition, key: Key) -> dict[str, Loss]:
        """Return the losses on one batch, functions of the actor and of all critics."""
        noise = self._draw_noise(key, batch)
        batch = normalised(state.normaliser, batch)
        alpha, critics = jnp.exp(state.log_temperature), state.critics
        target = td_target(batch, state.actor, state.targets, alpha, self.discount, noise.critic)
        return {
            "actor": lambda actor: actor_loss(actor, critics, alpha, batch.obs, noise.actor)[0],
            "critic": lambda critics: critic_loss(critics, batch.obs, batch.action, target)[0],
        }

    def value(self, state: SACState, obs: Array) -> Float[Array, " n"]:
        """Return the value of the greedy action, by the most pessimistic critic."""
        action = self.act_greedy(state, obs)
        return lowest(state.critics, state.normaliser.normalise(obs), action)

    def networks(self, state: SACState) -> Mapping[str, Any]:
        """Return the actor and the critics."""
        return {"actor": state.actor, "critic": state.critics}

    def _optimizer(self, network: str) -> optax.GradientTransformation:
        return with_terms(adamw(self.config, network, self.remedies), self.remedies, network)

    def _temperature_optimizer(self) -> optax.GradientTransformation:
        return optax.adam(self.config.temperature_learning_rate)

    def _draw_noise(self, key: Key, batch: Transition) -> Noise:
        actor_key, critic_key = jax.random.split(key)
        shape = batch.action.shape
        return Noise(jax.random.normal(actor_key, shape), jax.random.normal(critic_key, shape))
