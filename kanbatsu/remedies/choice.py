"""Which weights a step of dynamic sparsity takes and gives: exact counts, whatever ties."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def highest(scores: Float[Array, "*shape"], count: Int[Array, ""]) -> Bool[Array, "*shape"]:
    """Mark the entries with the highest scores, exactly as many as are asked for.

    Args:
        scores: any shape; ties go to what comes first.
        count: may be traced.

    Example:
        >>> highest(jnp.array([1.0, 3.0, 3.0, 2.0]), jnp.int32(2)).tolist()
        [False, True, True, False]
    """
    flat = scores.reshape(-1)
    order = jnp.argsort(-flat, stable=True)
    chosen = jnp.arange(flat.size, dtype=jnp.int32) < count
    return jnp.zeros(flat.shape, bool).at[order].set(chosen).reshape(scores.shape)


def swapped(
    mask: Bool[Array, "*shape"],
    magnitude: Float[Array, "*shape"],
    score: Float[Array, "*shape"],
    share: Float[Array, ""],
) -> Bool[Array, "*shape"]:
    """Drop the smallest of the kept weights, and grow as many of the others.

    What grows was not kept before, so that nothing is dropped and grown at once.

    Args:
        mask: True = kept.
        magnitude: of the weights.
        score: of the weights that are not kept: the highest begin.
        share: of the kept weights that moves, rounded down; no more than there are others.

    Example:
        >>> mask = jnp.array([True, True, False, False])
        >>> one = jnp.array([1.0, 2.0, 0.0, 5.0])
        >>> swapped(mask, one, one, jnp.float32(0.5)).tolist()
        [False, True, False, True]
    """
    kept = mask.sum(dtype=jnp.int32)
    count = jnp.floor(share * kept.astype(jnp.float32)).astype(jnp.int32)
    count = jnp.minimum(count, mask.size - kept)
    dropped = highest(jnp.where(mask, -magnitude, -jnp.inf), count)
    grown = highest(jnp.where(mask, -jnp.inf, score), count)
    return (mask & ~dropped) | grown


def cosine_share(share: float, done: Float[Array, ""]) -> Float[Array, ""]:
    r"""Share that moves after a part of training: $\tfrac{s}{2}(1 + \cos(\pi t / T))$.

    Args:
        share: at the start.
        done: $t / T$.

    Example:
        >>> [round(float(cosine_share(0.3, jnp.float32(t))), 3) for t in (0.0, 0.5, 1.0)]
        [0.3, 0.15, 0.0]

    Reference:
        Evci et al. 2020, "Rigging the Lottery", section 3.
    """
    return 0.5 * share * (1.0 + jnp.cos(math.pi * jnp.clip(done, 0.0, 1.0)))


def removed_share(begin: int, end: int, at: Int[Array, ""]) -> Float[Array, ""]:
    r"""Share of the final sparsity that gradual pruning has reached: $1 - (1 - x)^3$.

    Args:
        begin: env steps up to which it is 0.
        end: env steps from which it is 1.
        at: env steps so far; $x$ is how far they are from `begin` to `end`.

    Example:
        >>> for at in (200_000, 500_000, 800_000):
        ...     print(round(1 - 0.9 * float(removed_share(200_000, 800_000, jnp.int32(at))), 4))
        1.0
        0.2125
        0.1

    Reference:
        Zhu and Gupta 2017, "To Prune, or Not to Prune", equation 1.
    """
    x = jnp.clip((at - begin).astype(jnp.float32) / (end - begin), 0.0, 1.0)
    return 1.0 - (1.0 - x) ** 3


def drawn(key: jax.Array, mask: Bool[Array, "*shape"]) -> Bool[Array, "*shape"]:
    """Draw a mask anew that keeps as many weights, each as likely as another."""
    return highest(jax.random.uniform(key, mask.shape), mask.sum(dtype=jnp.int32))
