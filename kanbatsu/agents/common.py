"""What every actor-critic here does alike beside its losses: networks, gradients, the discount."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from functools import partial
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from kanbatsu.nn.heads import ValueHead
from kanbatsu.nn.network import Network, make_dense_network, make_network, make_network_masks
from kanbatsu.nn.normaliser import Normaliser
from kanbatsu.probes.health import network_health
from kanbatsu.probes.subject import Subject
from kanbatsu.remedies.records import Remedy
from kanbatsu.remedies.terms import decay_of
from kanbatsu.sparsity.config import Pruning
from kanbatsu.sparsity.weight import with_masks
from kanbatsu.types import Key, Spec, Transition, Window

Tree = TypeVar("Tree")
Scalar = Float[Array, ""]
Critics = tuple[Network, ...]
Loss = Callable[[Any], Scalar]
"""A loss on one batch, as a function of what learns from it."""


def draw_networks(
    config: Any, spec: Spec, actor_head: Callable[..., eqx.Module], key: Key, masks: Any = None
) -> tuple[Network, Critics]:
    """Draw an actor and its critics and prune them; with masks given, a pure function.

    Args:
        config: shapes and sparsities of `actor` and `critic`.
        spec: sizes of observation and action.
        actor_head: called with the width, `action_dim=` and `key=`.
        key: decides everything.
        masks: what `draw_masks` returned.
    """
    if masks is None:
        drawn = _actor_and_critics(make_network, config, spec, actor_head, key)
    else:
        dense = _actor_and_critics(make_dense_network, config, spec, actor_head, key)
        drawn = {
            name: with_masks(own, masks[name], rescale=getattr(config, name).rescale)
            for name, own in dense.items()
        }
    return drawn["actor"], drawn["critic"]


def draw_masks(
    config: Any, spec: Spec, actor_head: Callable[..., eqx.Module], key: Key
) -> dict[str, Any]:
    """Draw, on the host, the masks that `draw_networks` draws for this key."""
    return _actor_and_critics(make_network_masks, config, spec, actor_head, key)


def _actor_and_critics(
    make: Callable[..., Any], config: Any, spec: Spec, actor_head: Callable[..., Any], key: Key
) -> dict[str, Any]:
    """Share a key out over an actor and its critics, and `make` each."""
    actor_key, critic_key = jax.random.split(key)
    head, inputs = partial(actor_head, action_dim=spec.action_dim), spec.obs_dim + spec.action_dim
    return {
        "actor": make(config.actor, spec.obs_dim, head, key=actor_key),
        "critic": tuple(
            make(config.critic, inputs, ValueHead, key=own_key)
            for own_key in jax.random.split(critic_key, config.critic.members)
        ),
    }


def lowest(critics: Critics, obs: Array, action: Array) -> Float[Array, " batch"]:
    """Return the value of each pair by the most pessimistic critic."""
    return jnp.stack([critic(obs, action) for critic in critics]).min(axis=0)


def trainable(tree: Any) -> Any:
    """Return the floating-point arrays of a tree; masks and structure become None."""
    return eqx.filter(tree, eqx.is_inexact_array)


def with_gradient(loss: Callable[..., Any]) -> Callable[..., Any]:
    """Differentiate a loss `(model, ...) -> (value, info)` in the trainable part of its model.

    Returns:
        A function that returns `((value, info), gradient)`.
    """
    return eqx.filter_value_and_grad(loss, has_aux=True)


def adamw(
    config: Any, network: str, remedies: tuple[Remedy, ...] = ()
) -> optax.GradientTransformation:
    """Return the optimizer of an actor or a critic: with its own step size, or with both's."""
    own = getattr(config, f"{network}_learning_rate")
    rate = config.learning_rate if own is None else own
    return optax.adamw(rate, weight_decay=decay_of(remedies, config.weight_decay))


def actor_critic_subjects(
    state: Any, batch: Transition, losses: Mapping[str, Loss]
) -> dict[str, Subject]:
    """Return the actor and, of several critics, the first, each with its inputs and its loss.

    Args:
        state: State of the agent.
        batch: Transitions as the networks see them.
        losses: Functions of the actor and of a tuple of critics.
    """
    first, of_critics = state.critics[0], losses["critic"]
    return {
        "actor": Subject(state.actor, (batch.obs,), losses["actor"]),
        "critic": Subject(first, (batch.obs, batch.action), lambda critic: of_critics((critic,))),
    }


def gradients_of(networks: Mapping[str, Any], losses: Mapping[str, Loss]) -> dict[str, Any]:
    """Return the gradient of each loss in the trainable part of its network."""
    return {name: eqx.filter_grad(losses[name])(model) for name, model in networks.items()}


def apply_gradient(
    optimizer: optax.GradientTransformation, gradient: Any, moments: Any, model: Tree
) -> tuple[Tree, Any]:
    """Move a model one optimizer step; returns the model and the optimizer's new state."""
    # Optax multiplies an integer step count by floats, which strict promotion would refuse.
    with jax.numpy_dtype_promotion("standard"):
        updates, moments = optimizer.update(gradient, moments, trainable(model))
    return eqx.apply_updates(model, updates), moments


def move_towards(online: Tree, target: Tree, tau: float) -> Tree:
    """Polyak average: `tau * online + (1 - tau) * target`; what does not train stays.

    Example:
        >>> import jax.numpy as jnp
        >>> move_towards(jnp.array(1.0), jnp.array(0.0), 0.25)
        Array(0.25, dtype=float32, weak_type=True)
    """
    return jax.tree.map(
        lambda new, old: tau * new + (1.0 - tau) * old if eqx.is_inexact_array(old) else old,
        online,
        target,
    )


def in_turn(
    learn: Callable[..., Any],
    draw_noise: Callable[[Key, Any], Any],
    state: Tree,
    batches: Transition | Window,
    key: Key,
) -> tuple[Tree, dict[str, Array]]:
    """Learn from `k` batches in turn.

    Args:
        learn: from a state, a batch and noise to the next state and metrics.
        draw_noise: from a key and a batch to the noise of one update.
        state: what the first update begins with.
        batches: arrays `[k, batch, ...]`.
        key: split among the updates.

    Returns:
        The state after the last, and its metrics.
    """

    def step(state: Tree, item: tuple[Any, Key]) -> Any:
        batch, step_key = item
        return learn(state, batch, draw_noise(step_key, batch))

    state, metrics = jax.lax.scan(
        step, state, (batches, jax.random.split(key, batches.reward.shape[0]))
    )
    return state, {name: values[-1] for name, values in metrics.items()}


def health_of(subjects: Mapping[str, Subject]) -> dict[str, Scalar]:
    """Measure networks, with the gradients of their losses."""
    return named_health(
        **{
            name: network_health(own.network, gradient_of(own), *own.network.encode(*own.inputs))
            for name, own in subjects.items()
        }
    )


def gradient_of(subject: Subject) -> Any:
    """Return the gradient of a network's loss, as its optimizer would receive it."""
    return eqx.filter_grad(subject.loss)(subject.network)


def named_health(**health: Mapping[str, Any]) -> dict[str, Any]:
    """Put the name of a network before each of its probes.

    Example:
        >>> named_health(actor={"srank": 3})
        {'actor/srank': 3}
    """
    return {f"{name}/{probe}": x for name, own in health.items() for probe, x in own.items()}


def with_dense_networks(config: Any) -> Any:
    """Return an agent's configuration with networks that lose nothing, and draw the same weights.

    Example:
        >>> from kanbatsu.agents.sac import SACConfig
        >>> from kanbatsu.nn.config import NetworkConfig
        >>> with_dense_networks(SACConfig(NetworkConfig(sparsity=0.5))).actor.sparsity
        0.0
    """
    dense: dict[str, Any] = {"sparsity": 0.0, "pattern": "element", "trunk_sparsity": None}
    return replace(
        config,
        **{
            item.name: replace(
                network, **{name: x for name, x in dense.items() if hasattr(network, name)}
            )
            for item in fields(config)
            if isinstance(network := getattr(config, item.name), Pruning)
        },
    )


def one_of_each(networks: Mapping[str, Any]) -> dict[str, Any]:
    """Return networks by name; of several critics, which are alike, the first."""
    return {
        name: network[0] if isinstance(network, tuple) else network
        for name, network in networks.items()
    }


def normalised(normaliser: Normaliser, batch: Transition) -> Transition:
    """Return a batch with its observations normalised by what has been seen so far."""
    return batch._replace(
        obs=normaliser.normalise(batch.obs), next_obs=normaliser.normalise(batch.next_obs)
    )


def discount_for(discount: float | None, spec: Spec) -> float:
    r"""Return the discount per interaction, from the episode's length L where none is given.

    $$ \gamma = \mathrm{clip}\left(\frac{L/5 - 1}{L/5}, 0.95, 0.995\right) $$

    and 0.99 where episodes have no fixed length.

    Example:
        >>> discount_for(None, Spec((1,), action_dim=1, episode_length=500))
        0.99

    Reference:
        Hansen, Su and Wang 2024, "TD-MPC2", appendix; SimBa uses the same rule.
    """
    if discount is not None:
        return discount
    if spec.episode_length is None:
        return 0.99
    horizon = spec.episode_length / 5
    return min(max((horizon - 1) / horizon, 0.95), 0.995)
