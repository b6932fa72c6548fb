"""Effective ranks: how many directions the features really use, by three definitions."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def srank(features: Float[Array, "batch width"], delta: float = 0.01) -> Int[Array, ""]:
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
        >>> srank(jnp.diag(jnp.array([90.0, 9.5, 0.5])))
        Array(2, dtype=int32)

    Reference:
        Kumar et al. 2021, "Implicit Under-Parameterization Inhibits Data-Efficient Deep RL".
    """
    singular = jnp.linalg.svd(features, compute_uv=False)
    held = jnp.cumsum(singular)
    # Counted as "how many prefixes fall short", so that rounding cannot push it past the end.
    return (held[:-1] < (1.0 - delta) * held[-1]).sum(dtype=jnp.int32) + 1


def erank(features: Float[Array, "batch width"]) -> Float[Array, ""]:
    r"""Exponential of the entropy of the singular values, taken as shares of their sum.

    $$ \mathrm{erank}(\Phi) = \exp\left( -\sum_i p_i \log p_i \right), \qquad
       p_i = \frac{\sigma_i}{\sum_j \sigma_j} $$

    Args:
        features: one row per sample.

    Returns:
        A number from 1 to the smaller side; 0 where all features are zero.

    Example:
        >>> round(float(erank(jnp.diag(jnp.array([90.0, 5.0, 4.0, 1.0])))), 3)
        1.521

    Reference:
        Roy and Vetterli 2007, "The Effective Rank: a Measure of Effective Dimensionality".
    """
    singular = jnp.linalg.svd(features, compute_uv=False)
    total = singular.sum()
    shares = singular / jnp.where(total > 0.0, total, 1.0)
    entropy = -jnp.where(shares > 0.0, shares * jnp.log(jnp.maximum(shares, 1e-30)), 0.0).sum()
    return jnp.where(total > 0.0, jnp.exp(entropy), 0.0)


def stable_rank(features: Float[Array, "batch width"]) -> Float[Array, ""]:
    r"""Squared Frobenius norm of the features, in squares of their largest singular value.

    $$ \mathrm{srank}_F(\Phi) = \sum_i \sigma_i^2 / \sigma_1^2 $$

    Args:
        features: one row per sample.

    Returns:
        A number from 1 to the rank; 0 where all features are zero.

    Example:
        >>> round(float(stable_rank(jnp.diag(jnp.array([90.0, 5.0, 4.0, 1.0])))), 3)
        1.005

    Reference:
        Rudelson and Vershynin 2007, "Sampling from Large Matrices".
    """
    squares = jnp.linalg.svd(features, compute_uv=False) ** 2
    return squares.sum() / jnp.where(squares[0] > 0.0, squares[0], 1.0)
