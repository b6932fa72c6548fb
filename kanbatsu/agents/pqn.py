"""PQN: Q-learning in many environments at once, without replay and without target network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from kanbatsu.agents.common import Loss, apply_gradient, health_of, trainable, with_gradient
from kanbatsu.agents.returns import lambda_returns
from kanbatsu.nn.normed import (
    NormedNetwork,
    NormedNetworkConfig,
    make_normed_masks,
    make_normed_network,
)
from kanbatsu.probes.norms import tree_norm
from kanbatsu.probes.subject import Subject
from kanbatsu.ranges import Natural, Positive, Share
from kanbatsu.remedies.records import Remedy
from kanbatsu.remedies.terms import with_decay, with_terms
from kanbatsu.types import Key, Spec, Transition

Scalar = Float[Array, ""]

PUBLISHED_INTERACTIONS = 10_000_000
"""Interactions of the published runs on MinAtar."""

METRICS = ("critic_loss", "critic_gradient_norm", "q_mean", "target_mean", "reward_mean")


@dataclass(frozen=True)
class PQNConfig:
    """PQN with its published settings for MinAtar."""

    critic: NormedNetworkConfig = field(default_factory=NormedNetworkConfig)
    """The network of action values."""
    learning_rate: Positive = 5e-4
    """RAdam step size at the start of training."""
    decay_learning_rate: bool = True
    """Let the step size fall in a line, to zero at the end of training."""
    gradient_clip: Positive = 10.0
    """Largest norm of the gradient of all weights together; a longer one is scaled down."""
    discount: Share = 0.99
    """Discount per interaction."""
    return_decay: Share = 0.65
    """Lambda of the returns that are learned from: 0 = one reward, then the values; 1 = rewards
    alone, to the end of the rollout."""
    epochs: Natural = 2
    """Passes over each rollout."""
    minibatches: Natural = 32
    """Gradient steps of one pass, on as many equal parts of the rollout."""
    exploration_start: Share = 1.0
    """Share of random actions at first."""
    exploration_end: Share = 0.05
    """Share of random actions once `exploration_share` of training is over."""
    exploration_share: Share = 0.1
    """Share of training over which random actions fall from start to end, in a line."""
    training_interactions: Natural | None = None
    """Interactions of the whole training, over which exploration and step size fall; those of the
    run by default."""


class PQNState(eqx.Module):
    """Everything that training changes."""

    critic: NormedNetwork
    moments: Any
    interactions: Int[Array, ""]
    metrics: dict[str, Scalar]
    """Means over the gradient steps of the latest update."""


def q_loss(
    critic: NormedNetwork, obs: Array, action: Array, target: Array
) -> tuple[Scalar, dict[str, Scalar]]:
    """Half the mean squared error of the values of one-hot actions to their targets."""
    value = (critic(obs) * action).sum(axis=-1)
    return 0.5 * ((value - target) ** 2).mean(), {"q_mean": value.mean()}


@dataclass(frozen=True)
class PQN:
    """Parallelised Q-learning: rollouts in many environments, learned from and thrown away.

    LayerNorm stands in for the target network, and many environments for the replay. Actions go to
    the environment one-hot: `spec.action_dim` is the number of actions.

    Raises:
        ValueError: The environment has continuous actions.

    Example:
        >>> config = PQNConfig(NormedNetworkConfig(width=16, sparsity=0.5))
        >>> agent = PQN(Spec((10, 10, 4), action_dim=3, discrete=True), config)
        >>> state = agent.init(jax.random.key(0))
        >>> agent.act_greedy(state, jnp.ones((5, 10, 10, 4))).shape
        (5, 3)

    Reference:
        Gallici et al. 2024, "Simplifying Deep Temporal Difference Learning", arXiv 2407.04811; see
        docs/pqn.md for what differs.
    """

    spec: Spec
    config: PQNConfig = field(default_factory=PQNConfig)
    remedies: tuple[Remedy, ...] = ()
    """Remedies of the run; those that are terms of the optimizer's step are read."""

    def __post_init__(self) -> None:
        if not self.spec.discrete:
            raise ValueError(
                "pqn chooses among a few actions, and this environment has continuous ones: use an "
                "agent such as sac or stream_ac"
            )

    @property
    def passes(self) -> Mapping[str, int]:
        """Products with each kernel per update and sample: one to begin with, three an epoch."""
        return {"critic": 1 + 3 * self.config.epochs}

    @property
    def discount(self) -> float:
        """Discount per interaction."""
        return self.config.discount

    @property
    def training_interactions(self) -> int:
        """Interactions over which exploration and step size fall."""
        return self.config.training_interactions or PUBLISHED_INTERACTIONS

    def masks(self, key: Key) -> dict[str, Any]:
        """Draw the masks that `init` draws for this key, on the host."""
        spec = self.spec
        masks = make_normed_masks(self.config.critic, spec.obs_shape, spec.action_dim, key=key)
        return {"critic": masks}

    def init(self, key: Key, masks: Any = None) -> PQNState:
        """Draw the network and prune it once; with masks given, a pure function of both."""
        spec, masks = self.spec, masks and masks["critic"]
        critic = make_normed_network(
            self.config.critic, spec.obs_shape, spec.action_dim, key=key, masks=masks
        )
        return PQNState(
            critic=critic,
            moments=self._optimizer(1).init(trainable(critic)),
            interactions=jnp.int32(0),
            metrics={name: jnp.float32(0.0) for name in METRICS},
        )

    def exploration(self, interactions: Array) -> Scalar:
        """Return the share of random actions after that many interactions."""
        config = self.config
        over = max(config.exploration_share * self.training_interactions, 1.0)
        done = jnp.minimum(interactions.astype(jnp.float32) / over, 1.0)
        return config.exploration_start + done * (config.exploration_end - config.exploration_start)

    def act(self, state: PQNState, obs: Array, key: Key) -> tuple[PQNState, Array]:
        """Choose the best actions known, or, for a share that falls with time, any."""
        explore_key, action_key = jax.random.split(key)
        n, actions = len(obs), self.spec.action_dim
        explores = jax.random.uniform(explore_key, (n,)) < self.exploration(state.interactions)
        anything = jax.nn.one_hot(jax.random.randint(action_key, (n,), 0, actions), actions)
        action = jnp.where(explores[:, None], anything, self.act_greedy(state, obs))
        return eqx.tree_at(lambda s: s.interactions, state, state.interactions + n), action

    def act_greedy(self, state: PQNState, obs: Array) -> Array:
        """Return the best actions known, one-hot."""
        return jax.nn.one_hot(state.critic(obs).argmax(axis=-1), self.spec.action_dim)

    def update(
        self, state: PQNState, rollout: Transition, key: Key
    ) -> tuple[PQNState, dict[str, Scalar]]:
        """Learn from one rollout.

        Args:
            state: what the rollout was acted by.
            rollout: arrays `[steps, n, ...]`, in the order in which they happened.
            key: shuffles it.

        Returns:
            The state after `epochs` times `minibatches` gradient steps, and means over these.

        Raises:
            ValueError: The rollout cannot be split into so many equal parts.
        """
        config, samples = self.config, rollout.reward.size
        if samples % config.minibatches:
            raise ValueError(
                f"{config.minibatches} minibatches do not divide a rollout of {samples} "
                "transitions: change minibatches, train.rollout or train.environments"
            )
        target = lambda_returns(
            rollout.reward,
            rollout.terminated,
            rollout.truncated,
            self.value(state, rollout.next_obs),
            discount=config.discount,
            decay=config.return_decay,
        )
        obs, action, targets = (
            x.reshape(samples, *x.shape[2:]) for x in (rollout.obs, rollout.action, target)
        )
        orders = [jax.random.permutation(k, samples) for k in jax.random.split(key, config.epochs)]
        optimizer = self._optimizer(samples)

        def step(carry: tuple[Any, Any], rows: Array) -> tuple[Any, dict[str, Scalar]]:
            critic, moments = carry
            (loss, info), gradient = with_gradient(q_loss)(
                critic, obs[rows], action[rows], targets[rows]
            )
            carry = apply_gradient(optimizer, gradient, moments, critic)
            return carry, info | {"critic_loss": loss, "critic_gradient_norm": tree_norm(gradient)}

        rows = jnp.stack(orders).reshape(config.epochs * config.minibatches, -1)
        (critic, moments), steps = jax.lax.scan(step, (state.critic, state.moments), rows)
        metrics = {name: values.mean() for name, values in steps.items()} | {
            "target_mean": target.mean(),
            "reward_mean": rollout.reward.mean(),
        }
        return PQNState(critic, moments, state.interactions, metrics), metrics

    def metrics(self, state: PQNState) -> Mapping[str, Scalar]:
        """Return means over the gradient steps of the latest update."""
        return state.metrics

    def probe(self, state: PQNState, batch: Transition, key: Key) -> dict[str, Scalar]:
        """Measure the network on past transitions, with the gradient of one-step targets."""
        return health_of(self.subjects(state, batch, key))

    def subjects(self, state: PQNState, batch: Transition, key: Key) -> dict[str, Subject]:
        """Return the network with its loss on past transitions, of one-step targets."""
        return {
            "critic": Subject(state.critic, (batch.obs,), self.losses(state, batch, key)["critic"])
        }

    def losses(self, state: PQNState, batch: Transition, key: Key) -> dict[str, Loss]:
        """Return the loss on one batch, with one-step targets, a function of the network."""
        value = jnp.where(batch.terminated, 0.0, self.value(state, batch.next_obs))
        target = batch.reward + self.discount * value
        return {"critic": lambda critic: q_loss(critic, batch.obs, batch.action, target)[0]}

    def value(self, state: PQNState, obs: Array) -> Float[Array, "*n"]:
        """Return the value of the best action known."""
        return state.critic(obs).max(axis=-1)

    def networks(self, state: PQNState) -> Mapping[str, Any]:
        """Return the network of action values."""
        return {"critic": state.critic}

    def _optimizer(self, samples: int) -> optax.GradientTransformation:
        """Return RAdam with clipping; its step size falls with every update of `samples`."""
        config, rate = self.config, self.config.learning_rate
        steps = config.epochs * config.minibatches * self.training_interactions / samples
        schedule = optax.linear_schedule(rate, 0.0, max(round(steps), 1))
        step_size = schedule if config.decay_learning_rate else rate
        radam = with_decay(optax.radam(step_size), step_size, self.remedies)
        clip = optax.clip_by_global_norm(config.gradient_clip)
        return with_terms(optax.chain(clip, radam), self.remedies, "critic")
