"""The product of a layer whose parameter is the kept values, also inside Flax's own `vmap`."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from kanbatsu.flax.places import Matrix
from kanbatsu.kernels.products import add_bias


def multiply(
    matrices: tuple[Matrix, ...], x: Array, values: Array, kernel: Array, bias: Array | None
) -> Array:
    """Return `x W + bias`, by the kept values.

    Of an ensemble, one member alone is multiplied densely, for nothing tells which one it is;
    `vmap` over all of them multiplies each by what it keeps.

    Args:
        matrices: the places of the values of every member.
        x: float32, `[..., inputs]`.
        values: float32, of one member.
        kernel: the same as a dense array, `[inputs, outputs]`.
        bias: float32, `[outputs]`.

    Returns:
        `[..., outputs]`.
    """
    if len(matrices) == 1:
        return matrices[0].multiply(x, values, bias)
    return KEPT.bind(x, values, kernel, *(() if bias is None else (bias,)), matrices=matrices)


def _multiply(
    x: Array, values: Array, kernel: Array, *bias: Array, matrices: tuple[Matrix, ...]
) -> Array:
    y = x @ kernel
    return add_bias(y, bias[0]) if bias else y


def _differentiate(primals: Sequence[Array], tangents: Sequence[Any], **which: Any) -> Any:
    live = [index for index, tangent in enumerate(tangents) if type(tangent) is not ad.Zero]

    def function(*moving: Array) -> Array:
        arrays = list(primals)
        for index, array in zip(live, moving, strict=True):
            arrays[index] = array
        return _multiply(*arrays, **which)

    moving = tuple(primals[index] for index in live)
    return jax.jvp(function, moving, tuple(tangents[index] for index in live))


def _batch(
    arrays: Sequence[Array], axes: Sequence[int | None], *, matrices: tuple[Matrix, ...]
) -> tuple[Array, int]:
    x, values, kernel, *bias = arrays
    if axes[0] is not None and all(axis is None for axis in axes[1:]):
        x = jnp.moveaxis(x, axes[0], 0)
        return KEPT.bind(x, values, kernel, *bias, matrices=matrices), 0
    if axes[1] is None or values.shape[axes[1]] != len(matrices):
        function = functools.partial(_multiply, matrices=matrices)
        return jax.vmap(function, tuple(axes))(*arrays), 0
    members = []
    for index, matrix in enumerate(matrices):
        x, values, _, *bias = (
            array if axis is None else jax.lax.index_in_dim(array, index, axis, keepdims=False)
            for array, axis in zip(arrays, axes, strict=True)
        )
        members.append(matrix.multiply(x, values, *bias))
    return jnp.stack(members), 0


KEPT = Primitive("kanbatsu_kept")
"""`multiply` for one member of several: which one is known once `vmap` adds the others."""
KEPT.def_impl(_multiply)
KEPT.def_abstract_eval(
    lambda x, values, kernel, *bias, matrices: jax.core.ShapedArray(
        (*x.shape[:-1], kernel.shape[-1]), x.dtype
    )
)
mlir.register_lowering(KEPT, mlir.lower_fun(_multiply, multiple_results=False))
ad.primitive_jvps[KEPT] = _differentiate
batching.primitive_batchers[KEPT] = _batch
