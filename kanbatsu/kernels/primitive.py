"""How a function becomes a JAX primitive: what it means, how it runs on a CPU, how it batches."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir

from kanbatsu.kernels.library import library

Array = jax.Array

FEATURE_MAJOR = (1, 0)
"""The order of axes of activations `[batch, features]` for the kernels, which read and write them
feature by feature. XLA carries it through the operations between two layers, so that nothing is
transposed there."""


def define(
    name: str,
    anywhere: Callable[..., Array],
    on_cpu: Callable[..., Array],
    result_shape: Callable[..., tuple[int, ...]],
    *,
    maps_batch: bool = False,
) -> Primitive:
    """Make a primitive without derivatives.

    Args:
        name: the primitive's name, without the prefix `kanbatsu_`.
        anywhere: what it means, in JAX; runs where the kernels cannot: on another device, without
            a compiler, for other types than float32.
        on_cpu: the same by a kernel.
        result_shape: the shape of its result; its type is that of the first argument.
        maps_batch: whether `vmap` over the first argument alone makes more batch. Other members of
            a `vmap` are done one after the other.

    Returns:
        The primitive; `anywhere` and the others take its arguments and its parameters.
    """
    primitive = Primitive(f"kanbatsu_{name}")

    def run_on_cpu(*arrays: Array, **parameters: Any) -> Array:
        # XLA fails on the transpose of an empty batch, which a kernel would have it make.
        floats = [array for array in arrays if jnp.issubdtype(array.dtype, jnp.inexact)]
        known = all(array.dtype == jnp.float32 for array in floats)
        runs = library() is not None and known and arrays[0].size > 0
        return (on_cpu if runs else anywhere)(*arrays, **parameters)

    @functools.cache
    def compiled(**parameters: Any) -> Callable[..., Array]:
        return jax.jit(functools.partial(primitive.bind, **parameters))

    def run(*arrays: Array, **parameters: Any) -> Array:
        with jax.disable_jit(False):  # with nothing compiled it would call itself for ever
            return compiled(**parameters)(*arrays)

    primitive.def_impl(run)
    primitive.def_abstract_eval(
        lambda *arrays, **parameters: jax.core.ShapedArray(
            result_shape(*arrays, **parameters), arrays[0].dtype
        )
    )
    mlir.register_lowering(primitive, mlir.lower_fun(anywhere, multiple_results=False))
    mlir.register_lowering(
        primitive, mlir.lower_fun(run_on_cpu, multiple_results=False), platform="cpu"
    )
    batching.primitive_batchers[primitive] = functools.partial(_batch, primitive, maps_batch)
    return primitive


def call(
    target: str,
    arrays: Sequence[Array],
    *results: jax.ShapeDtypeStruct,
    **attributes: Any,
) -> Sequence[Array]:
    """Call a kernel; every float matrix among its arrays is feature-major."""

    def order(array: Array | jax.ShapeDtypeStruct) -> tuple[int, ...]:
        axes = tuple(range(len(array.shape)))
        return FEATURE_MAJOR if len(axes) == 2 and array.dtype == jnp.float32 else axes

    return jax.ffi.ffi_call(
        f"kanbatsu_{target}",
        results,
        input_layouts=[order(array) for array in arrays],
        output_layouts=[order(result) for result in results],
    )(*arrays, **attributes)


def rows(x: Array) -> Array:
    """Return activations `[..., features]` as `[batch, features]`."""
    return x.reshape(-1, x.shape[-1])


def _batch(
    primitive: Primitive,
    maps_batch: bool,
    arrays: Sequence[Array],
    axes: Sequence[Any],
    **parameters: Any,
) -> tuple[Array, int]:
    bind = functools.partial(primitive.bind, **parameters)
    first = tuple(
        array if axis is None else jnp.moveaxis(array, axis, 0)
        for array, axis in zip(arrays, axes, strict=True)
    )
    if maps_batch and all(axis is None for axis in axes[1:]):
        return bind(*first), 0
    return one_by_one(bind, first, tuple(axis is not None for axis in axes)), 0


def one_by_one(function: Callable[..., Any], arguments: tuple[Any, ...], batched: Any) -> Any:
    """Call a function for each member in turn, and stack the results.

    Args:
        function: what is called with the arguments.
        arguments: trees of arrays.
        batched: a boolean for each array of the arguments: whether its first axis is that of the
            members.
    """
    leaves, tree = jax.tree.flatten(arguments)
    flags = jax.tree.leaves(batched)

    def one(member: list[Array]) -> Any:
        mine = iter(member)
        whole = [next(mine) if flag else leaf for leaf, flag in zip(leaves, flags, strict=True)]
        return function(*jax.tree.unflatten(tree, whole))

    return jax.lax.map(one, [leaf for leaf, flag in zip(leaves, flags, strict=True) if flag])
