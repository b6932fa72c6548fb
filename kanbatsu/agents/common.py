"""What every actor-critic here does alike beside its losses: networks, gradients, the discount."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import equinox as eqx
import jax
import optax
from jaxtyping import Array

from kanbatsu.nn.config import CriticConfig, NetworkConfig
from kanbatsu.nn.heads import ValueHead
from kanbatsu.nn.normaliser import Normaliser
from kanbatsu.types import Key, Spec, Transition

Tree = TypeVar("Tree")


def actor_and_critics(
    make: Callable[..., Any],
    actor: NetworkConfig,
    critic: CriticConfig,
    spec: Spec,
    actor_head: Callable[..., eqx.Module],
    key: Key,
) -> dict[str, Any]:
    """Share a key out over an actor and its critics.

    Args:
        make: `make_network` for networks pruned as configured, `make_dense_network`, or
            `make_network_masks` for the masks alone.
        actor: shape and sparsity of the policy.
        critic: shape, sparsity and number of the value networks.
        spec: sizes of observation and action.
        actor_head: called with the width, `action_dim=` and `key=`.
        key: decides everything.

    Returns:
        What `make` made: `actor`, and a tuple `critic`.
    """
    actor_key, critic_key = jax.random.split(key)
    head = partial(actor_head, action_dim=spec.action_dim)
    return {
        "actor": make(actor, spec.obs_dim, head, key=actor_key),
        "critic": tuple(
            make(critic, spec.obs_dim + spec.action_dim, ValueHead, key=each)
            for each in jax.random.split(critic_key, critic.members)
        ),
    }


def trainable(tree: Any) -> Any:
    """Return the floating-point arrays of a tree; masks and structure become None."""
    return eqx.filter(tree, eqx.is_inexact_array)


def with_gradient(loss: Callable[..., Any]) -> Callable[..., Any]:
    """Differentiate a loss `(model, ...) -> (value, info)` in the trainable part of its model.

    Returns:
        A function that returns `((value, info), gradient)`.
    """
    return eqx.filter_value_and_grad(loss, has_aux=True)


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
    draw_noise: Callable[[Key, Transition], Any],
    state: Tree,
    batches: Transition,
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

    def step(state: Tree, item: tuple[Transition, Key]) -> Any:
        batch, step_key = item
        return learn(state, batch, draw_noise(step_key, batch))

    state, metrics = jax.lax.scan(
        step, state, (batches, jax.random.split(key, batches.reward.shape[0]))
    )
    return state, {name: values[-1] for name, values in metrics.items()}


def normalised(normaliser: Normaliser, batch: Transition) -> Transition:
    """Return a batch with its observations normalised by what has been seen so far."""
    return batch._replace(
        obs=normaliser.normalise(batch.obs), next_obs=normaliser.normalise(batch.next_obs)
    )


def discount_for(discount: float | None, spec: Spec) -> float:
    r"""Return the discount per decision, from the episode's length L where none is given.

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
