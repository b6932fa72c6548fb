"""Effective rank: how many directions the features really use."""

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
