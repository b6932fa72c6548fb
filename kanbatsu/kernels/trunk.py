r"""A residual trunk of pruned layers: its products and all that is between them, in one call.

Block by block $x \leftarrow x + \mathrm{down}(\mathrm{relu}(\mathrm{up}(\mathrm{norm}(x))))$, then
a norm. On a CPU one kernel runs all of it forward, another all of it backward. One by one the
products are so short that starting their threads, fetching activations feature by feature, and
passes of XLA between two of them would take longer.

Nothing is made that nobody needs: a forward pass writes no traces unless something is
differentiated, and a backward pass computes gradients of the weights only where they are wanted.
Each pass has a meaning in JAX (trunk_meaning.py), which runs where the kernels cannot, and which
higher derivatives are taken of.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import CustomVJPPrimal, SymbolicZero, custom_vjp_primal_tree_values

from kanbatsu.kernels import trunk_meaning
from kanbatsu.kernels.library import library
from kanbatsu.kernels.primitive import call, one_by_one, rows
from kanbatsu.kernels.trunk_parts import (
    Affine,
    Array,
    Block,
    Norm,
    Statistics,
    Trace,
    Traces,
    TrunkSizes,
)


def trunk(
    x: Array, blocks: tuple[Block, ...], norm: Norm, sizes: TrunkSizes
) -> tuple[Array, tuple[Array, ...]]:
    """Run a trunk.

    Args:
        x: `[..., width]`.
        blocks: at least one.
        norm: the last one.
        sizes: what the arrays of a block do not say; equal for all blocks.

    Returns:
        The features, `[..., width]`, and the output of every block's ReLU, `[..., units]`, through
        which no gradient flows.
    """
    y, hidden = _trunk(rows(x), blocks, norm, sizes)
    shape = (*x.shape[:-1], sizes.up.outputs)
    return y.reshape(x.shape), tuple(
        trunk_meaning.from_tiles(jax.lax.stop_gradient(units), y.shape[0]).reshape(shape)
        for units in hidden
    )


class Pass(NamedTuple):
    """One of the things that a trunk computes, of activations and of weights."""

    meaning: Callable[..., Any]
    kernel: Callable[..., Any]

    def __call__(self, activations: Any, weights: Any, sizes: TrunkSizes) -> Any:
        """Run the kernel where there is one for these arrays, else the meaning."""
        return _run(self, sizes, activations, weights)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _run(of: Pass, sizes: TrunkSizes, activations: Any, weights: Any) -> Any:
    leaves = jax.tree.leaves((activations, weights))
    floats = [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    meaning = functools.partial(of.meaning, sizes=sizes)
    if library() is None or any(leaf.dtype != jnp.float32 or not leaf.size for leaf in floats):
        return meaning(activations, weights)
    kernel = functools.partial(of.kernel, sizes=sizes)

    @jax.custom_batching.custom_vmap
    def run(activations: Any, weights: Any) -> Any:
        return jax.lax.platform_dependent(activations, weights, cpu=kernel, default=meaning)

    @run.def_vmap
    def members(size: int, batched: Any, activations: Any, weights: Any) -> Any:
        results = one_by_one(run, (activations, weights), tuple(batched))
        return results, jax.tree.map(lambda _: True, results)

    return run(activations, weights)


@_run.defjvp
def _differentiate(of: Pass, sizes: TrunkSizes, primals: Any, tangents: Any) -> Any:
    return jax.jvp(functools.partial(of.meaning, sizes=sizes), primals, tangents)


def _traces_kernel(x: Array, weights: Any, sizes: TrunkSizes) -> tuple[Array, Traces]:
    wide, hidden, statistic = _tile_shapes(x.shape[0], sizes)
    statistics = Statistics(statistic, statistic)
    trace = Trace(wide, statistics, hidden, wide)
    traces = Traces(wide, (trace,) * len(weights[0]), statistics)
    return _call_forward("trunk_traces", x, weights, sizes, (_float(*x.shape), traces))


def _forward_kernel(x: Array, weights: Any, sizes: TrunkSizes) -> Array:
    return _call_forward("trunk", x, weights, sizes, _float(*x.shape))


def _call_forward(name: str, x: Array, weights: Any, sizes: TrunkSizes, results: Any) -> Any:
    blocks, norm = weights
    arguments: list[Array] = [x]
    for block in blocks:
        arguments += block.norm
        for layer in (block.up, block.down):
            arguments += [layer.values, layer.bias, *sizes.layout.forwards(layer.structure)]
    epsilon = np.float32(sizes.epsilon)
    return _call(name, sizes, (*arguments, *norm), results, epsilon=epsilon)


def _input_gradient_kernel(given: tuple[Array, Traces], weights: Any, sizes: TrunkSizes) -> Array:
    return _call_backward("trunk_input_gradient", given, weights, sizes)[0]


def _gradients_kernel(
    given: tuple[Array, Traces], weights: Any, sizes: TrunkSizes
) -> tuple[Array, tuple[Any, ...], Norm]:
    width, units = sizes.up.inputs, sizes.up.outputs
    norm = Norm(_float(width), _float(width))
    gradients = tuple(
        (
            norm,
            (_float(*block.up.values.shape), _float(units)),
            (_float(*block.down.values.shape), _float(width)),
        )
        for block in weights[0]
    )
    return _call_backward("trunk_gradients", given, weights, sizes, gradients, norm)


def _call_backward(
    name: str, given: tuple[Array, Traces], weights: Any, sizes: TrunkSizes, *gradients: Any
) -> Any:
    dy, traces = given
    blocks, norm = weights
    arguments: list[Array] = [dy, traces.input]
    for block, trace in zip(blocks, traces.blocks, strict=True):
        arguments += [trace.normed, *trace.statistics, block.norm.scale]
        arguments += [trace.hidden, trace.output]
        for layer in (block.up, block.down):
            arguments += [layer.values, *sizes.layout.backwards(layer.structure)]
            if gradients:
                arguments += sizes.layout.forwards(layer.structure)
    results = (_float(*dy.shape), *gradients)
    return _call(name, sizes, (*arguments, *traces.last, norm.scale), results)


FORWARD = Pass(trunk_meaning.forward, _forward_kernel)
TRACES = Pass(trunk_meaning.traces, _traces_kernel)
PASS_BACK = Pass(trunk_meaning.input_gradient, _input_gradient_kernel)
GRADIENTS = Pass(trunk_meaning.gradients, _gradients_kernel)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _trunk(
    x: Array, blocks: tuple[Block, ...], norm: Norm, sizes: TrunkSizes
) -> tuple[Array, tuple[Array, ...]]:
    # Of the two calls a compiled caller runs those whose results it uses.
    _, traces = TRACES(x, (blocks, norm), sizes)
    return FORWARD(x, (blocks, norm), sizes), tuple(trace.hidden for trace in traces.blocks)


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["blocks", "norm", "traces"],
    meta_fields=["learns"],
)
@dataclass(frozen=True)
class _Saved:
    """Arrays for the backward pass, and whether gradients of the weights are wanted."""

    blocks: tuple[Block, ...]
    norm: Norm
    traces: Traces
    learns: bool


def _trunk_forward(*arguments: Any) -> Any:
    *differentiated, sizes = arguments
    x, blocks, norm = custom_vjp_primal_tree_values(tuple(differentiated))
    leaves = jax.tree.leaves(
        differentiated[1:], is_leaf=lambda leaf: isinstance(leaf, CustomVJPPrimal)
    )
    y, traces = TRACES(x, (blocks, norm), sizes)
    learns = any(leaf.perturbed for leaf in leaves)
    return (y, tuple(trace.hidden for trace in traces.blocks)), _Saved(blocks, norm, traces, learns)


def _trunk_backward(sizes: TrunkSizes, saved: _Saved, cotangents: Any) -> Any:
    blocks, norm = saved.blocks, saved.norm
    dy = cotangents[0]
    if isinstance(dy, SymbolicZero):
        dy = jnp.zeros(dy.shape, dy.dtype)
    if not saved.learns:
        return PASS_BACK((dy, saved.traces), (blocks, norm), sizes), None, None
    dx, gradients, dnorm = GRADIENTS((dy, saved.traces), (blocks, norm), sizes)

    def affine(gradient: tuple[Array, Array], of: Affine) -> Affine:
        return Affine(*gradient, (None,) * len(of.structure))  # type: ignore[arg-type]

    dblocks = tuple(
        Block(of_norm, affine(of_up, block.up), affine(of_down, block.down))
        for (of_norm, of_up, of_down), block in zip(gradients, blocks, strict=True)
    )
    return dx, dblocks, dnorm


_trunk.defvjp(_trunk_forward, _trunk_backward, symbolic_zeros=True)


def _float(*shape: int) -> Any:
    """Describe an array, where a kernel's results are described."""
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def _tile_shapes(batch: int, sizes: TrunkSizes) -> tuple[Any, ...]:
    """Shapes in tiles: of what is as wide as the trunk, of hidden units, of one per sample."""
    lanes = sizes.layout.lanes
    tiles = -(-batch // lanes)
    shapes = (tiles, sizes.up.inputs, lanes), (tiles, sizes.up.outputs, lanes), (tiles, 1, lanes)
    return tuple(_float(*shape) for shape in shapes)


def _call(
    name: str, sizes: TrunkSizes, arguments: Sequence[Array], results: Any, **attributes: Any
) -> Any:
    """Call a kernel whose results are a tree."""
    leaves, tree = jax.tree.flatten(results)
    made = call(f"{sizes.up.layout}_{name}", arguments, *leaves, **attributes)
    return jax.tree.unflatten(tree, made)
