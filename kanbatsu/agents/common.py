"""What every actor-critic here does alike, beside its losses: gradients, targets, the discount."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import equinox as eqx
import jax
import optax

from kanbatsu.types import Spec

Tree = TypeVar("Tree")


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


def discount_for(discount: float | None, spec: Spec) -> float:
    r"""Return the discount per decision, from the episode's length L where none is given.

    $$ \gamma = \mathrm{clip}\left(\frac{L/5 - 1}{L/5}, 0.95, 0.995\right) $$

    and 0.99 where episodes have no fixed length.

    Example:
        >>> discount_for(None, Spec(obs_dim=1, action_dim=1, episode_length=500))
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
