"""DrQ-v2: DDPG from images, with random shifts, returns of several steps and two critics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from kanbatsu.agents.common import (
    Loss,
    apply_gradient,
    health_of,
    in_turn,
    move_towards,
    trainable,
    with_gradient,
)
from kanbatsu.nn.heads import explore
from kanbatsu.nn.pixel_config import EncoderConfig, PixelActorConfig, PixelCriticConfig
from kanbatsu.nn.pixels import (
    Encoder,
    PixelActor,
    PixelCritic,
    make_pixel_masks,
    make_pixel_networks,
)
from kanbatsu.nn.shift import shifted
from kanbatsu.probes.norms import tree_norm
from kanbatsu.probes.subject import Subject
from kanbatsu.ranges import Natural, NotNegative, Positive, Share, Whole, Within
from kanbatsu.types import Key, Spec, Window

Scalar = Float[Array, ""]


@dataclass(frozen=True)
class DrQv2Config:
    """DrQ-v2 with its published settings for easy tasks."""

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    """The convolutions that policy and critic see through."""
    actor: PixelActorConfig = field(default_factory=PixelActorConfig)
    """The policy network behind them."""
    critic: PixelCriticConfig = field(default_factory=PixelCriticConfig)
    """The value network behind them."""
    learning_rate: Positive = 1e-4
    """Adam step size of all networks."""
    exploration_start: NotNegative = 1.0
    """Standard deviation of the noise on actions at first."""
    exploration_end: NotNegative = 0.1
    """Standard deviation of the noise on actions from `exploration_interactions` on."""
    exploration_interactions: Natural = 100_000
    """Interactions over which the noise falls from start to end, in a line."""
    noise_clip: Positive = 0.3
    """Largest noise on actions inside the losses."""
    shift: Whole = 4
    """Pixels by which images that are learned from are shifted at most, in each direction."""
    steps: Natural = 3
    """Interactions whose rewards are added up before the value of what follows."""
    discount: Share = 0.99
    """Discount per interaction."""
    tau: Annotated[float, Within(1e-6, 1.0)] = 0.01
    """Share of the critic that flows into its target at every update."""


class DrQv2State(eqx.Module):
    """Everything that training changes."""

    encoder: Encoder
    actor: PixelActor
    critic: PixelCritic
    target: PixelCritic
    """The critic's target; the encoder has none."""
    encoder_moments: Any
    actor_moments: Any
    critic_moments: Any
    interactions: Int[Array, ""]


class Noise(NamedTuple):
    """The random draws of one update; noise on actions is scaled and clipped."""

    shift: Int[Array, "batch 2"]
    next_shift: Int[Array, "batch 2"]
    actor: Float[Array, "batch action_dim"]
    critic: Float[Array, "batch action_dim"]


def critic_loss(
    encoder_and_critic: tuple[Encoder, PixelCritic], obs: Array, action: Array, target: Array
) -> tuple[Scalar, tuple[dict[str, Scalar], Array]]:
    """Mean squared error to the target, summed over the heads; also what the encoder returned."""
    encoder, critic = encoder_and_critic
    values = critic(features := encoder(obs), action)
    info = {f"q{index}_mean": value.mean() for index, value in enumerate(values, start=1)}
    return ((values - target) ** 2).mean(axis=-1).sum(), (info, features)


def actor_loss(
    actor: PixelActor, critic: PixelCritic, features: Array, noise: Array
) -> tuple[Scalar, dict[str, Scalar]]:
    """Mean of minus the lowest value of the action with noise, of what the encoder returned."""
    action = explore(actor(features), noise)
    magnitude = jnp.abs(action).mean()
    return -critic(features, action).min(axis=0).mean(), {"action_magnitude": magnitude}


@dataclass(frozen=True)
class DrQv2:
    """Deterministic actor-critic from images; the critic alone trains the encoder.

    Raises:
        ValueError: The environment shows vectors, or has discrete actions.

    Example:
        >>> small = PixelActorConfig(width=8), PixelCriticConfig(width=8)
        >>> config = DrQv2Config(EncoderConfig(network="small", channels=4), *small)
        >>> agent = DrQv2(Spec((36, 36, 9), action_dim=1, obs_dtype="uint8"), config)
        >>> state = agent.init(jax.random.key(0))
        >>> agent.act_greedy(state, jnp.ones((5, 36, 36, 9), jnp.uint8)).shape
        (5, 1)

    Reference:
        Yarats et al. 2021, "Mastering Visual Continuous Control", arXiv 2107.09645; see
        docs/drqv2.md for what differs.
    """

    spec: Spec
    config: DrQv2Config = field(default_factory=DrQv2Config)

    passes = {"encoder": 4, "actor": 4, "critic": 6}  # noqa: RUF012
    """Products with each kernel per update and sample: forward, input and weight gradients."""

    def __post_init__(self) -> None:
        if len(self.spec.obs_shape) != 3:
            raise ValueError(
                f"drqv2 sees images, and this environment shows vectors of length "
                f"{self.spec.obs_dim}: use a task such as dmc-pixels/walker-walk, or sac"
            )
        if self.spec.discrete:
            raise ValueError("drqv2 has continuous actions, and this environment discrete: use pqn")

    @property
    def discount(self) -> float:
        """Discount per interaction."""
        return self.config.discount

    @property
    def window(self) -> int:
        """Interactions of a window, of which one sample is made."""
        return self.config.steps

    def masks(self, key: Key) -> dict[str, Any]:
        """Draw the masks that `init` draws for this key, on the host."""
        return make_pixel_masks(*self._sizes, key=key)

    def init(self, key: Key, masks: Any = None) -> DrQv2State:
        """Draw the networks, prune them once, and start the critic's target as a copy."""
        made = make_pixel_networks(*self._sizes, key=key, masks=masks)
        return DrQv2State(
            **made,
            target=jax.tree.map(jnp.copy, made["critic"]),
            **{f"{name}_moments": self._adam.init(trainable(own)) for name, own in made.items()},
            interactions=jnp.int32(0),
        )

    def exploration(self, interactions: Array) -> Scalar:
        """Return the standard deviation of the noise after that many interactions."""
        config = self.config
        done = jnp.minimum(interactions.astype(jnp.float32) / config.exploration_interactions, 1.0)
        return config.exploration_start + done * (config.exploration_end - config.exploration_start)

    def act(self, state: DrQv2State, obs: Array, key: Key) -> tuple[DrQv2State, Array]:
        """Act with noise that falls with time."""
        mean, moved = self.act_greedy(state, obs), state.interactions + len(obs)
        noise = self.exploration(state.interactions) * jax.random.normal(key, mean.shape)
        return eqx.tree_at(lambda s: s.interactions, state, moved), explore(mean, noise)

    def act_greedy(self, state: DrQv2State, obs: Array) -> Array:
        """Act without noise."""
        return state.actor(state.encoder(obs))

    def update(
        self, state: DrQv2State, batches: Window, key: Key
    ) -> tuple[DrQv2State, dict[str, Scalar]]:
        """Learn from `k` batches in turn (arrays `[k, batch, ...]`); metrics are of the last."""
        draw = partial(self._draw_noise, interactions=state.interactions)
        return in_turn(self.learn, draw, state, batches, key)

    def learn(
        self, state: DrQv2State, batch: Window, noise: Noise
    ) -> tuple[DrQv2State, dict[str, Scalar]]:
        """Update once: encoder and critic, actor, target; a function of its arguments alone."""
        obs = shifted(batch.obs, noise.shift, self.config.shift)
        target = self._target(state, batch, noise)

        (loss_critic, (values, features)), (encoder_gradient, critic_gradient) = with_gradient(
            critic_loss
        )((state.encoder, state.critic), obs, batch.action, target)
        encoder, encoder_moments = apply_gradient(
            self._adam, encoder_gradient, state.encoder_moments, state.encoder
        )
        critic, critic_moments = apply_gradient(
            self._adam, critic_gradient, state.critic_moments, state.critic
        )
        seen, take = jax.lax.stop_gradient(features), with_gradient(actor_loss)
        (loss_actor, info), actor_gradient = take(state.actor, critic, seen, noise.actor)
        actor, actor_moments = apply_gradient(
            self._adam, actor_gradient, state.actor_moments, state.actor
        )
        metrics = {
            "actor_loss": loss_actor,
            "critic_loss": loss_critic,
            "actor_gradient_norm": tree_norm(actor_gradient),
            "critic_gradient_norm": tree_norm(critic_gradient),
            "encoder_gradient_norm": tree_norm(encoder_gradient),
            "target_mean": target.mean(),
            "reward_mean": batch.reward.mean(),
        }
        new_state = DrQv2State(
            encoder=encoder,
            actor=actor,
            critic=critic,
            target=move_towards(critic, state.target, self.config.tau),
            encoder_moments=encoder_moments,
            actor_moments=actor_moments,
            critic_moments=critic_moments,
            interactions=state.interactions,
        )
        return new_state, metrics | info | values

    def probe(self, state: DrQv2State, batch: Window, key: Key) -> dict[str, Scalar]:
        """Measure encoder, actor and critic on one batch; of the critic's heads, all units."""
        return health_of(self.subjects(state, batch, key))

    def subjects(self, state: DrQv2State, batch: Window, key: Key) -> dict[str, Subject]:
        """Return the networks with their losses on one batch, which is not shifted."""
        losses, features = self.losses(state, batch, key), state.encoder(batch.obs)
        return {
            "encoder": Subject(state.encoder, (batch.obs,), losses["encoder"]),
            "actor": Subject(state.actor, (features,), losses["actor"]),
            "critic": Subject(state.critic, (features, batch.action), losses["critic"]),
        }

    def losses(self, state: DrQv2State, batch: Window, key: Key) -> dict[str, Loss]:
        """Return the losses on one batch, each a function of its network alone."""
        still = jnp.full((len(batch.reward), 2), self.config.shift)
        drawn = self._draw_noise(key, batch, state.interactions)
        noise = drawn._replace(shift=still, next_shift=still)
        target, features = self._target(state, batch, noise), state.encoder(batch.obs)

        def both(encoder: Encoder, critic: PixelCritic) -> Scalar:
            return critic_loss((encoder, critic), batch.obs, batch.action, target)[0]

        return {
            "encoder": lambda encoder: both(encoder, state.critic),
            "actor": lambda actor: actor_loss(actor, state.critic, features, noise.actor)[0],
            "critic": lambda critic: both(state.encoder, critic),
        }

    def value(self, state: DrQv2State, obs: Array) -> Float[Array, " n"]:
        """Return the value of the greedy action, by the most pessimistic head."""
        features = state.encoder(obs)
        return state.critic(features, state.actor(features)).min(axis=0)

    def networks(self, state: DrQv2State) -> Mapping[str, Any]:
        """Return the encoder, the actor and the critic."""
        return {"encoder": state.encoder, "actor": state.actor, "critic": state.critic}

    def _target(self, state: DrQv2State, batch: Window, noise: Noise) -> Float[Array, " batch"]:
        """Rewards of the window, and the lowest value of the action after it."""
        features = state.encoder(shifted(batch.next_obs, noise.next_shift, self.config.shift))
        action = explore(state.actor(features), noise.critic)
        return batch.reward + batch.discount * state.target(features, action).min(axis=0)

    @property
    def _sizes(self) -> tuple[Any, ...]:
        """What decides the networks."""
        config, spec = self.config, self.spec
        return config.encoder, config.actor, config.critic, spec.obs_shape, spec.action_dim

    @property
    def _adam(self) -> optax.GradientTransformation:
        return optax.adam(self.config.learning_rate)

    def _draw_noise(self, key: Key, batch: Window, interactions: Array) -> Noise:
        """Draw one shift for each stack, and noise on actions as large as acting has it now."""
        keys, config = jax.random.split(key, 4), self.config
        deviation, n = self.exploration(interactions), len(batch.reward)
        shifts = [jax.random.randint(own, (n, 2), 0, 2 * config.shift + 1) for own in keys[:2]]
        scaled = [deviation * jax.random.normal(own, batch.action.shape) for own in keys[2:]]
        clipped = [jnp.clip(x, -config.noise_clip, config.noise_clip) for x in scaled]
        return Noise(*shifts, *clipped)
