"""What every actor-critic here does alike beside its losses: networks, gradients, the discount."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import jax
import optax

from kanbatsu.nn.config import CriticConfig, NetworkConfig
from kanbatsu.nn.heads import ValueHead
from kanbatsu.nn.network import Network, make_network, make_network_masks
from kanbatsu.types import Key, Spec

Tree = TypeVar("Tree")


class Recipes(NamedTuple):
    """What `make_network` and `make_network_masks` are told of an actor and its critics."""

    actor: dict[str, Any]
    critics: tuple[dict[str, Any], ...]

    @classmethod
    def of(
        cls,
        actor: NetworkConfig,
        critic: CriticConfig,
        spec: Spec,
        actor_head: Callable[..., eqx.Module],
        key: Key,
    ) -> Recipes:
        """Share a key out over the actor and the critics."""
        actor_key, critic_key = jax.random.split(key)
        of_critic = {
            "config": critic,
            "inputs": spec.obs_dim + spec.action_dim,
            "make_head": ValueHead,
        }
        return cls(
            {
                "config": actor,
                "inputs": spec.obs_dim,
                "make_head": partial(actor_head, action_dim=spec.action_dim),
                "key": actor_key,
            },
            tuple(
                of_critic | {"key": each} for each in jax.random.split(critic_key, critic.members)
            ),
        )

    def masks(self) -> dict[str, Any]:
        """Draw the masks of all of them, on the host."""
        return {
            "actor": make_network_masks(**self.actor),
            "critic": tuple(make_network_masks(**each) for each in self.critics),
        }

    def networks(self, masks: Any = None) -> tuple[Network, tuple[Network, ...]]:
        """Draw the actor and the critics, pruned as they say or with masks given."""
        own = (None,) * len(self.critics) if masks is None else masks["critic"]
        return (
            make_network(**self.actor, masks=masks and masks["actor"]),
            tuple(
                make_network(**each, masks=of_each)
                for each, of_each in zip(self.critics, own, strict=True)
            ),
        )


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
