"""Sums over the batch that leave activations in the order of the kernels.

XLA transposes feature-major activations before it sums them, which takes longer than the sum. The
sum here and the broadcast that undoes it are each other's derivative.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.interpreters import ad

from kanbatsu.kernels.primitive import call, define, rows

Array = jax.Array


def sum_batch(x: Array) -> Array:
    """Sum `[..., features]` over all axes but the last.

    Example:
        >>> sum_batch(jnp.ones((3, 2)))
        Array([3., 3.], dtype=float32)
    """
    return SUM_BATCH.bind(x)


def spread_batch(x: Array, batch: tuple[int, ...]) -> Array:
    """Repeat `[features]` along new leading axes.

    Example:
        >>> spread_batch(jnp.ones(2), (3,)).shape
        (3, 2)
    """
    return SPREAD_BATCH.bind(x, batch=batch)


def _sum_batch_on_cpu(x: Array) -> Array:
    (y,) = call("batch_sum", (rows(x),), jax.ShapeDtypeStruct(x.shape[-1:], x.dtype))
    return y


def _spread_batch(x: Array, batch: tuple[int, ...]) -> Array:
    return jnp.broadcast_to(x, (*batch, *x.shape))


SUM_BATCH = define(
    "sum_batch", lambda x: rows(x).sum(axis=0), _sum_batch_on_cpu, lambda x: x.shape[-1:]
)
SPREAD_BATCH = define(
    "spread_batch", _spread_batch, _spread_batch, lambda x, batch: (*batch, *x.shape)
)

ad.deflinear2(SUM_BATCH, lambda cotangent, x: [spread_batch(cotangent, x.aval.shape[:-1])])
ad.deflinear2(SPREAD_BATCH, lambda cotangent, x, batch: [sum_batch(cotangent)])
