"""What the passes of a residual trunk mean, in JAX: what runs where the kernels cannot.

Higher derivatives are taken of these functions. Inside them activations lie in tiles,
`[tiles, features, lanes]`: sample `t * lanes + l` is at `[t, :, l]`, and samples beyond the batch
are zeros on the way in.
"""

from __future__ import annotations

import functools
from typing import Any

import jax.numpy as jnp

from kanbatsu.kernels.products import AFFINE, INPUT_GRADIENT, WEIGHT_GRADIENT, LayerSizes
from kanbatsu.kernels.trunk_parts import (
    Affine,
    Array,
    Errors,
    Norm,
    Statistics,
    Trace,
    Traces,
    TrunkSizes,
)


def to_tiles(x: Array, lanes: int) -> Array:
    """Lay `[batch, features]` in tiles."""
    tiles = -(-x.shape[0] // lanes)
    padded = jnp.pad(x, ((0, tiles * lanes - x.shape[0]), (0, 0)))
    return padded.reshape(tiles, lanes, x.shape[1]).swapaxes(1, 2)


def from_tiles(tiles: Array, batch: int) -> Array:
    """Undo `to_tiles`."""
    count, features, lanes = tiles.shape
    return tiles.swapaxes(1, 2).reshape(count * lanes, features)[:batch]


def _multiply(primitive: Any, tiles: Array, *arrays: Array, **parameters: Any) -> Array:
    """Apply a product, of `[..., features]`, to tiles."""
    return primitive.bind(tiles.swapaxes(1, 2), *arrays, **parameters).swapaxes(1, 2)


def _normalise(x: Array, norm: Norm, epsilon: float) -> tuple[Array, Statistics]:
    mean = x.mean(axis=1, keepdims=True)
    centred = x - mean
    deviation = jnp.sqrt((centred**2).mean(axis=1, keepdims=True) + epsilon)
    y = centred / deviation * norm.scale[:, None] + norm.shift[:, None]
    return y, Statistics(mean, deviation)


def traces(x: Array, weights: Any, sizes: TrunkSizes) -> tuple[Array, Traces]:
    """Return the features of `[batch, width]`, and all that the gradients need."""
    blocks, norm = weights
    value = first = to_tiles(x, sizes.layout.lanes)
    made = []
    for block in blocks:
        normed, statistics = _normalise(value, block.norm, sizes.epsilon)
        up, down = (
            functools.partial(_multiply, AFFINE, sizes=layer) for layer in (sizes.up, sizes.down)
        )
        hidden = up(normed, block.up.values, block.up.bias, *block.up.structure, relu=True)
        value = value + down(
            hidden, block.down.values, block.down.bias, *block.down.structure, relu=False
        )
        made.append(Trace(normed, statistics, hidden, value))
    y, last = _normalise(value, norm, sizes.epsilon)
    return from_tiles(y, x.shape[0]), Traces(first, tuple(made), last)


def forward(x: Array, weights: Any, sizes: TrunkSizes) -> Array:
    """Return the features alone."""
    return traces(x, weights, sizes)[0]


def _normalise_gradient(dy: Array, x: Array, of: Statistics, scale: Array) -> Array:
    standard = (x - of.mean) / of.deviation
    error = dy * scale[:, None]
    along = (error * standard).mean(axis=1, keepdims=True)
    return (error - error.mean(axis=1, keepdims=True) - standard * along) / of.deviation


def _errors(
    dy: Array, traces: Traces, weights: Any, sizes: TrunkSizes
) -> tuple[Array, Array, tuple[Errors, ...]]:
    blocks, norm = weights
    inputs = (traces.input, *(trace.output for trace in traces.blocks))
    dlast = to_tiles(dy, sizes.layout.lanes)
    dx = _normalise_gradient(dlast, inputs[-1], traces.last, norm.scale)
    errors = []
    for block, trace, x in reversed(list(zip(blocks, traces.blocks, inputs[:-1], strict=True))):
        up, down = block.up, block.down
        back = functools.partial(_multiply, INPUT_GRADIENT)
        passed = back(dx, down.values, *down.structure, sizes=sizes.down)
        hidden = jnp.where(trace.hidden > 0, passed, jnp.zeros_like(passed))
        normed = back(hidden, up.values, *up.structure, sizes=sizes.up)
        errors.append(Errors(normed, hidden, dx))
        dx = dx + _normalise_gradient(normed, x, trace.statistics, block.norm.scale)
    return from_tiles(dx, dy.shape[0]), dlast, tuple(reversed(errors))


def input_gradient(given: tuple[Array, Traces], weights: Any, sizes: TrunkSizes) -> Array:
    """Return the gradient of the input, given that of the features and the traces."""
    return _errors(*given, weights, sizes)[0]


def _norm_weight_gradient(dy: Array, x: Array, of: Statistics) -> Norm:
    standard = (x - of.mean) / of.deviation
    return Norm(scale=(dy * standard).sum(axis=(0, 2)), shift=dy.sum(axis=(0, 2)))


def gradients(
    given: tuple[Array, Traces], weights: Any, sizes: TrunkSizes
) -> tuple[Array, tuple[Any, ...], Norm]:
    """Return the gradients of the input, of every block (norm, up, down) and of the last norm."""
    dy, traces = given
    dx, dlast, errors = _errors(dy, traces, weights, sizes)

    def of_affine(x: Array, dy: Array, layer: Affine, of: LayerSizes) -> tuple[Array, Array]:
        pair = x.swapaxes(1, 2), dy.swapaxes(1, 2)
        return WEIGHT_GRADIENT.bind(*pair, *layer.structure, sizes=of), dy.sum((0, 2))

    all_blocks = []
    x = traces.input
    for trace, error, block in zip(traces.blocks, errors, weights[0], strict=True):
        all_blocks.append(
            (
                _norm_weight_gradient(error.normed, x, trace.statistics),
                of_affine(trace.normed, error.hidden, block.up, sizes.up),
                of_affine(trace.hidden, error.output, block.down, sizes.down),
            )
        )
        x = trace.output
    return dx, tuple(all_blocks), _norm_weight_gradient(dlast, x, traces.last)
