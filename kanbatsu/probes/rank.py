"""Effective ranks: how many directions the features really use, by three definitions.

Features are arrays of JAX or of numpy, and so is what is returned.
"""

from __future__ import annotations

from typing import Any

from jaxtyping import Float, Int


def srank(features: Float[Any, "batch width"], delta: float = 0.01) -> Int[Any, ""]:
    r"""Count the leading singular values that hold a share `1 - delta` of their sum.

    $$ \mathrm{srank}_\delta(\Phi) = \min \{ k : \sum_{i \le k} \sigma_i / \sum_i \sigma_i
       \ge 1 - \delta \} $$

    Args:
        features: one row per sample. The rank is at most the number of rows: use more samples
            than the width, or the batch is what is measured.
        delta: the share that may be missing.

    Returns:
        An integer between 1 and the smaller side.

    Example:
        >>> import jax.numpy as jnp
        >>> srank(jnp.diag(jnp.array([90.0, 9.5, 0.5])))
        Array(2, dtype=int32)

    Reference:
        Kumar et al. 2021, "Implicit Under-Parameterization Inhibits Data-Efficient Deep RL".
    """
    xp = features.__array_namespace__()
    singular = xp.linalg.svd(features, compute_uv=False)
    held = xp.cumsum(singular)
    # Counted as "how many prefixes fall short", so that rounding cannot push it past the end.
    return (held[:-1] < (1.0 - delta) * held[-1]).sum(dtype=xp.int32) + 1


def erank(features: Float[Any, "batch width"]) -> Float[Any, ""]:
    r"""Exponential of the entropy of the singular values, taken as shares of their sum.

    $$ \mathrm{erank}(\Phi) = \exp\left( -\sum_i p_i \log p_i \right), \qquad
       p_i = \frac{\sigma_i}{\sum_j \sigma_j} $$

    Args:
        features: one row per sample.

    Returns:
        A number from 1 to the smaller side; 0 where all features are zero.

    Example:
        >>> import jax.numpy as jnp
        >>> round(float(erank(jnp.diag(jnp.array([90.0, 5.0, 4.0, 1.0])))), 3)
        1.521

    Reference:
        Roy and Vetterli 2007, "The Effective Rank: a Measure of Effective Dimensionality".
    """
    xp = features.__array_namespace__()
    singular = xp.linalg.svd(features, compute_uv=False)
    total = singular.sum()
    shares = singular / xp.where(total > 0.0, total, 1.0)
    entropy = -xp.where(shares > 0.0, shares * xp.log(xp.maximum(shares, 1e-30)), 0.0).sum()
    return xp.where(total > 0.0, xp.exp(entropy), 0.0)


def stable_rank(features: Float[Any, "batch width"]) -> Float[Any, ""]:
    r"""Squared Frobenius norm of the features, in squares of their largest singular value.

    $$ \mathrm{srank}_F(\Phi) = \sum_i \sigma_i^2 / \sigma_1^2 $$

    Args:
        features: one row per sample.

    Returns:
        A number from 1 to the rank; 0 where all features are zero.

    Example:
        >>> import jax.numpy as jnp
        >>> round(float(stable_rank(jnp.diag(jnp.array([90.0, 5.0, 4.0, 1.0])))), 3)
        1.005

    Reference:
        Rudelson and Vershynin 2007, "Sampling from Large Matrices".
    """
    xp = features.__array_namespace__()
    squares = xp.linalg.svd(features, compute_uv=False) ** 2
    return squares.sum() / xp.where(squares[0] > 0.0, squares[0], 1.0)
