"""Norms: of weights, of gradients, of features."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def tree_norm(tree: Any) -> Float[Array, ""]:
    """Euclidean norm of all trainable numbers of a tree: weights, or their gradients.

    Example:
        >>> tree_norm({"w": jnp.array([3.0]), "b": jnp.array([4.0])})
        Array(5., dtype=float32)
    """
    leaves = jax.tree.leaves(eqx.filter(tree, eqx.is_inexact_array))
    return jnp.sqrt(sum((jnp.sum(leaf**2) for leaf in leaves), start=jnp.float32(0.0)))


def feature_norm(features: Float[Array, "batch width"]) -> Float[Array, ""]:
    """Mean over samples of the features' Euclidean norm.

    Example:
        >>> feature_norm(jnp.array([[3.0, 4.0], [0.0, 1.0]]))
        Array(3., dtype=float32)
    """
    return jnp.linalg.norm(features, axis=-1).mean()
