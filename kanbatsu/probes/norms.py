"""Norms: of weights, of gradients, of features."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float


def tree_norm(tree: Any) -> Float[Any, ""]:
    """Euclidean norm of all trainable numbers of a tree: weights, or their gradients.

    Example:
        >>> import jax.numpy as jnp
        >>> tree_norm({"w": jnp.array([3.0]), "b": jnp.array([4.0])})
        Array(5., dtype=float32)
    """
    import equinox as eqx  # here, so that norms of arrays need no JAX
    import jax
    import jax.numpy as jnp

    leaves = jax.tree.leaves(eqx.filter(tree, eqx.is_inexact_array))
    return jnp.sqrt(sum((jnp.sum(leaf**2) for leaf in leaves), start=jnp.float32(0.0)))


def feature_norm(features: Float[Any, "batch width"]) -> Float[Any, ""]:
    """Mean over samples of the Euclidean norm of features, an array of JAX or of numpy.

    Example:
        >>> import jax.numpy as jnp
        >>> feature_norm(jnp.array([[3.0, 4.0], [0.0, 1.0]]))
        Array(3., dtype=float32)
    """
    return features.__array_namespace__().linalg.norm(features, axis=-1).mean()
