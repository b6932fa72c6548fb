r"""A residual trunk of pruned layers: its products and all that is between them, in one call.

Block by block $x \leftarrow x + \mathrm{down}(\mathrm{relu}(\mathrm{up}(\mathrm{norm}(x))))$, then
a norm. On a CPU one kernel runs all of it forward, another passes errors back, a third computes the
gradients of the weights. One by one the products are so short that starting their threads, fetching
activations feature by feature, and XLA's own passes between two of them would take longer.

Each of the three has a meaning in JAX, which runs where the kernels cannot, and which higher
derivatives are taken of.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kanbatsu.kernels.layouts import LAYOUTS, Layout, Structure
from kanbatsu.kernels.library import library
from kanbatsu.kernels.primitive import call, one_by_one, rows
from kanbatsu.kernels.products import (
    AFFINE,
    INPUT_GRADIENT,
    WEIGHT_GRADIENT,
    Shape,
    values_shape,
)

Array = jax.Array


class Affine(NamedTuple):
    """A layer `x W + bias`, with the weight as its layout stores it."""

    values: Array
    bias: Array
    structure: Structure


class Norm(NamedTuple):
    """Mean 0 and variance 1 over the features, times `scale`, plus `shift`."""

    scale: Array
    shift: Array


class Block(NamedTuple):
    """What one block is made of."""

    norm: Norm
    up: Affine
    down: Affine


class Sizes(NamedTuple):
    """What the arrays do not say; equal for all blocks."""

    up: Shape
    down: Shape
    epsilon: float

    @property
    def layout(self) -> Layout:
        """How the weights are stored."""
        return LAYOUTS[self.up.layout]


# What a trunk makes lies in tiles, `[tiles, features, lanes]`: sample `t * lanes + l` is at `[t, :,
# l]`, and samples beyond the batch are zeros on the way in.


class Normed(NamedTuple):
    """What a norm gives, and what its gradient needs."""

    y: Array
    mean: Array
    """`[tiles, 1, lanes]`."""
    deviation: Array
    """`[tiles, 1, lanes]`, the root of variance plus epsilon."""


class Trace(NamedTuple):
    """What a block made of its input."""

    normed: Normed
    hidden: Array
    """The output of its ReLU."""
    output: Array


class Traces(NamedTuple):
    """All that the gradients need of a forward pass."""

    input: Array
    blocks: tuple[Trace, ...]
    last: Normed


class Errors(NamedTuple):
    """Gradients of what a block made."""

    normed: Array
    hidden: Array
    """Before the ReLU."""
    output: Array


def trunk(
    x: Array, blocks: tuple[Block, ...], norm: Norm, sizes: Sizes
) -> tuple[Array, tuple[Array, ...]]:
    """Run a trunk.

    Args:
        x: `[..., width]`.
        blocks: at least one.
        norm: the last one.
        sizes: of every block.

    Returns:
        The features, `[..., width]`, and the output of every block's ReLU, `[..., units]`, through
        which no gradient flows.
    """
    y, hidden = _trunk(rows(x), blocks, norm, sizes)
    shape = (*x.shape[:-1], sizes.up.outputs)
    return y.reshape(x.shape), tuple(
        _leave(jax.lax.stop_gradient(units), y.shape[0]).reshape(shape) for units in hidden
    )


class Pass(NamedTuple):
    """One of the three things that a trunk computes, of activations and of weights."""

    meaning: Callable[..., Any]
    kernel: Callable[..., Any]

    def __call__(self, activations: Any, weights: Any, sizes: Sizes) -> Any:
        """Run the kernel where there is one for these arrays, else the meaning."""
        return _run(self, sizes, activations, weights)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _run(of: Pass, sizes: Sizes, activations: Any, weights: Any) -> Any:
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
def _differentiate(of: Pass, sizes: Sizes, primals: Any, tangents: Any) -> Any:
    return jax.jvp(functools.partial(of.meaning, sizes=sizes), primals, tangents)


def _enter(x: Array, lanes: int) -> Array:
    """Lay `[batch, features]` in tiles."""
    tiles = -(-x.shape[0] // lanes)
    padded = jnp.pad(x, ((0, tiles * lanes - x.shape[0]), (0, 0)))
    return padded.reshape(tiles, lanes, x.shape[1]).swapaxes(1, 2)


def _leave(tiles: Array, batch: int) -> Array:
    """Undo `_enter`."""
    count, features, lanes = tiles.shape
    return tiles.swapaxes(1, 2).reshape(count * lanes, features)[:batch]


def _multiply(primitive: Any, tiles: Array, *arrays: Array, **parameters: Any) -> Array:
    """Apply a product, of `[..., features]`, to tiles."""
    return primitive.bind(tiles.swapaxes(1, 2), *arrays, **parameters).swapaxes(1, 2)


def _normalise(x: Array, norm: Norm, epsilon: float) -> Normed:
    mean = x.mean(axis=1, keepdims=True)
    centred = x - mean
    deviation = jnp.sqrt((centred**2).mean(axis=1, keepdims=True) + epsilon)
    y = centred / deviation * norm.scale[:, None] + norm.shift[:, None]
    return Normed(y, mean, deviation)


def _forward(x: Array, weights: Any, sizes: Sizes) -> tuple[Array, Traces]:
    blocks, norm = weights
    value = first = _enter(x, sizes.layout.lanes)
    traces = []
    for block in blocks:
        normed = _normalise(value, block.norm, sizes.epsilon)
        up, down = (
            functools.partial(_multiply, AFFINE, shape=shape) for shape in (sizes.up, sizes.down)
        )
        hidden = up(normed.y, block.up.values, block.up.bias, *block.up.structure, relu=True)
        value = value + down(
            hidden, block.down.values, block.down.bias, *block.down.structure, relu=False
        )
        traces.append(Trace(normed, hidden, value))
    last = _normalise(value, norm, sizes.epsilon)
    return _leave(last.y, x.shape[0]), Traces(first, tuple(traces), last)


def _forward_kernel(x: Array, weights: Any, sizes: Sizes) -> tuple[Array, Traces]:
    blocks, norm = weights
    wide, hidden, statistic = _tile_shapes(x.shape[0], sizes)
    arguments: list[Array] = [x]
    for block in blocks:
        arguments += block.norm
        for layer in (block.up, block.down):
            arguments += [layer.values, layer.bias, *sizes.layout.forwards(layer.structure)]
    normed = Normed(wide, statistic, statistic)
    traces = Traces(wide, (Trace(normed, hidden, wide),) * len(blocks), normed)
    return _call(
        "trunk",
        sizes,
        (*arguments, *norm),
        (_float(*x.shape), traces),
        epsilon=np.float32(sizes.epsilon),
    )


def _normalise_gradient(dy: Array, x: Array, normed: Normed, scale: Array) -> Array:
    standard = (x - normed.mean) / normed.deviation
    error = dy * scale[:, None]
    along = (error * standard).mean(axis=1, keepdims=True)
    return (error - error.mean(axis=1, keepdims=True) - standard * along) / normed.deviation


def _input_gradient(
    given: tuple[Array, Traces], weights: Any, sizes: Sizes
) -> tuple[Array, Array, tuple[Errors, ...]]:
    dy, traces = given
    blocks, norm = weights
    inputs = (traces.input, *(trace.output for trace in traces.blocks))
    dlast = _enter(dy, sizes.layout.lanes)
    dx = _normalise_gradient(dlast, inputs[-1], traces.last, norm.scale)
    errors = []
    for block, trace, x in reversed(list(zip(blocks, traces.blocks, inputs[:-1], strict=True))):
        up, down = block.up, block.down
        back = functools.partial(_multiply, INPUT_GRADIENT)
        passed = back(dx, down.values, *down.structure, shape=sizes.down)
        hidden = jnp.where(trace.hidden > 0, passed, jnp.zeros_like(passed))
        normed = back(hidden, up.values, *up.structure, shape=sizes.up)
        errors.append(Errors(normed, hidden, dx))
        dx = dx + _normalise_gradient(normed, x, trace.normed, block.norm.scale)
    return _leave(dx, dy.shape[0]), dlast, tuple(reversed(errors))


def _input_gradient_kernel(
    given: tuple[Array, Traces], weights: Any, sizes: Sizes
) -> tuple[Array, Array, tuple[Errors, ...]]:
    dy, traces = given
    blocks, norm = weights
    wide, hidden, _ = _tile_shapes(dy.shape[0], sizes)
    arguments: list[Array] = [dy, traces.input]
    results: list[Any] = []
    for block, trace in zip(blocks, traces.blocks, strict=True):
        arguments += [*trace.normed[1:], block.norm.scale, trace.hidden, trace.output]
        for layer in (block.up, block.down):
            arguments += [layer.values, *sizes.layout.backwards(layer.structure)]
        reorders = (block.up, block.down) if sizes.layout.reorders else ()
        room = [_float(*layer.values.shape) for layer in reorders]
        results.append((Errors(wide, hidden, wide), room))
    dx, dlast, _, made = _call(
        "trunk_input_gradient",
        sizes,
        (*arguments, *traces.last[1:], norm.scale),
        (_float(*dy.shape), wide, wide, results),
    )
    return dx, dlast, tuple(errors for errors, _ in made)


def _norm_weight_gradient(dy: Array, x: Array, normed: Normed) -> Norm:
    standard = (x - normed.mean) / normed.deviation
    return Norm(scale=(dy * standard).sum(axis=(0, 2)), shift=dy.sum(axis=(0, 2)))


def _weight_gradients(
    given: tuple[Array, Traces, tuple[Errors, ...]], structures: Any, sizes: Sizes
) -> tuple[tuple[Any, ...], Norm]:
    dlast, traces, errors = given

    def of_values(x: Array, dy: Array, structure: Structure, shape: Shape) -> Array:
        pair = x.swapaxes(1, 2), dy.swapaxes(1, 2)
        return WEIGHT_GRADIENT.bind(*pair, *structure, shape=shape)

    gradients = []
    x = traces.input
    for trace, error, (up, down) in zip(traces.blocks, errors, structures, strict=True):
        gradients.append(
            (
                _norm_weight_gradient(error.normed, x, trace.normed),
                (of_values(trace.normed.y, error.hidden, up, sizes.up), error.hidden.sum((0, 2))),
                (of_values(trace.hidden, error.output, down, sizes.down), error.output.sum((0, 2))),
            )
        )
        x = trace.output
    return tuple(gradients), _norm_weight_gradient(dlast, x, traces.last)


def _weight_gradients_kernel(
    given: tuple[Array, Traces, tuple[Errors, ...]], structures: Any, sizes: Sizes
) -> tuple[tuple[Any, ...], Norm]:
    dlast, traces, errors = given
    width, units = sizes.up.inputs, sizes.up.outputs
    norm = Norm(_float(width), _float(width))
    arguments: list[Array] = [dlast, traces.input]
    results = []
    for trace, error, (up, down) in zip(traces.blocks, errors, structures, strict=True):
        normed, *statistics = trace.normed
        arguments += [normed, trace.hidden, trace.output, *error, *statistics]
        arguments += [*sizes.layout.forwards(up), *sizes.layout.forwards(down)]
        of_up = _float(*values_shape(up, sizes.up)), _float(units)
        of_down = _float(*values_shape(down, sizes.down)), _float(width)
        results.append((norm, of_up, of_down))
    return _call(
        "trunk_weight_gradients",
        sizes,
        (*arguments, *traces.last[1:]),
        (tuple(results), norm),
    )


FORWARD = Pass(_forward, _forward_kernel)
PASS_BACK = Pass(_input_gradient, _input_gradient_kernel)
GRADIENTS = Pass(_weight_gradients, _weight_gradients_kernel)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _trunk(
    x: Array, blocks: tuple[Block, ...], norm: Norm, sizes: Sizes
) -> tuple[Array, tuple[Array, ...]]:
    y, traces = FORWARD(x, (blocks, norm), sizes)
    return y, tuple(trace.hidden for trace in traces.blocks)


def _trunk_forward(x: Array, blocks: tuple[Block, ...], norm: Norm, sizes: Sizes) -> Any:
    y, traces = FORWARD(x, (blocks, norm), sizes)
    return (y, tuple(trace.hidden for trace in traces.blocks)), (blocks, norm, traces)


def _trunk_backward(sizes: Sizes, saved: Any, cotangents: Any) -> Any:
    blocks, norm, traces = saved
    dx, dlast, errors = PASS_BACK((cotangents[0], traces), (blocks, norm), sizes)
    structures = tuple((block.up.structure, block.down.structure) for block in blocks)
    gradients, dnorm = GRADIENTS((dlast, traces, errors), structures, sizes)

    def affine(gradient: tuple[Array, Array], structure: Structure) -> Affine:
        return Affine(*gradient, (None,) * len(structure))  # type: ignore[arg-type]

    dblocks = tuple(
        Block(of_norm, affine(of_up, up), affine(of_down, down))
        for (of_norm, of_up, of_down), (up, down) in zip(gradients, structures, strict=True)
    )
    return dx, dblocks, dnorm


_trunk.defvjp(_trunk_forward, _trunk_backward)


def _float(*shape: int) -> Any:
    """Describe an array, where a kernel's results are described."""
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def _tile_shapes(batch: int, sizes: Sizes) -> tuple[Any, ...]:
    """Shapes in tiles: of what is as wide as the trunk, of hidden units, of one per sample."""
    lanes = sizes.layout.lanes
    tiles = -(-batch // lanes)
    shapes = (tiles, sizes.up.inputs, lanes), (tiles, sizes.up.outputs, lanes), (tiles, 1, lanes)
    return tuple(_float(*shape) for shape in shapes)


def _call(
    name: str, sizes: Sizes, arguments: Sequence[Array], results: Any, **attributes: Any
) -> Any:
    """Call a kernel whose results are a tree."""
    leaves, tree = jax.tree.flatten(results)
    made = call(f"{sizes.up.layout}_{name}", arguments, *leaves, **attributes)
    return jax.tree.unflatten(tree, made)
