"""Sums over features and over the batch that leave activations in the order of the kernels.

XLA transposes feature-major activations before it sums them, which takes longer than the sum. Each
sum here and the broadcast that undoes it are each other's derivative.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.interpreters import ad

from kanbatsu.kernels.primitive import batch_activations, batch_one_by_one, call, define, rows

Array = jax.Array


def sum_features(x: Array) -> Array:
    """Sum `[..., features]` over its last axis.

    Example:
        >>> sum_features(jnp.ones((3, 2)))
        Array([2., 2., 2.], dtype=float32)
    """
    return SUM_FEATURES.bind(x)


def spread_features(x: Array, features: int) -> Array:
    """Repeat `[...]` along a new last axis.

    Example:
        >>> spread_features(jnp.ones(3), 2).shape
        (3, 2)
    """
    return SPREAD_FEATURES.bind(x, features=features)


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


def _sum_features_on_cpu(x: Array) -> Array:
    batch = x.shape[:-1]
    (y,) = call("feature_sum", (rows(x),), jax.ShapeDtypeStruct((math.prod(batch),), x.dtype))
    return y.reshape(batch)


def _sum_batch_on_cpu(x: Array) -> Array:
    (y,) = call("batch_sum", (rows(x),), jax.ShapeDtypeStruct(x.shape[-1:], x.dtype))
    return y


def _spread_features(x: Array, features: int) -> Array:
    return jnp.broadcast_to(x[..., None], (*x.shape, features))


def _spread_batch(x: Array, batch: tuple[int, ...]) -> Array:
    return jnp.broadcast_to(x, (*batch, *x.shape))


SUM_FEATURES = define(
    "sum_features", lambda x: x.sum(axis=-1), _sum_features_on_cpu, lambda x: x.shape[:-1]
)
SPREAD_FEATURES = define(
    "spread_features",
    _spread_features,
    _spread_features,
    lambda x, features: (*x.shape, features),
)
SUM_BATCH = define(
    "sum_batch", lambda x: rows(x).sum(axis=0), _sum_batch_on_cpu, lambda x: x.shape[-1:]
)
SPREAD_BATCH = define(
    "spread_batch", _spread_batch, _spread_batch, lambda x, batch: (*batch, *x.shape)
)

batch_activations(SUM_FEATURES)
batch_activations(SPREAD_FEATURES)
batch_one_by_one(SUM_BATCH)
batch_one_by_one(SPREAD_BATCH)


def _linear(primitive: Any, transpose: Any) -> None:
    ad.deflinear2(primitive, lambda cotangent, x, **parameters: [transpose(cotangent, x)])


_linear(SUM_FEATURES, lambda cotangent, x: spread_features(cotangent, x.aval.shape[-1]))
_linear(SPREAD_FEATURES, lambda cotangent, x: sum_features(cotangent))
_linear(SUM_BATCH, lambda cotangent, x: spread_batch(cotangent, x.aval.shape[:-1]))
_linear(SPREAD_BATCH, lambda cotangent, x: sum_batch(cotangent))
