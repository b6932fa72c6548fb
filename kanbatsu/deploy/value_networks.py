"""From the named arrays of Stream AC, Stream Q and PQN to the layers of a policy."""

from __future__ import annotations

import math

import numpy as np

from kanbatsu.deploy.layers import (
    Activate,
    Add,
    Choose,
    Clip,
    Conv,
    Dense,
    Grouped,
    Layer,
    LayerNorm,
    Packed,
    Remember,
    Weight,
)
from kanbatsu.deploy.network import Arrays, linear, norm, numbered, take, weight_of
from kanbatsu.nn.normed import WINDOW
from kanbatsu.nn.stream import NEGATIVE_SLOPE, STREAM_NORM_EPSILON

RELU = Activate("relu", 1.0)


def stream_actor(network: Arrays, inputs: int, low: np.ndarray, high: np.ndarray) -> list[Layer]:
    """Return the greedy policy of Stream AC: the mean, clipped, then brought to the bounds.

    The bounds are multiplied into the last layer, so that clipping to them is the end.

    Args:
        network: arrays of a `StreamNetwork` with a `NormalHead`, by path.
        inputs: length of an observation.
        low: lowest value of each entry of an action.
        high: highest value likewise.

    Raises:
        ValueError: if it is another network, or the bounds do not fit.
    """
    arrays = {name: x for name, x in network.items() if not name.startswith("head/deviation/")}
    layers, width = _stream(arrays, inputs)
    head = linear(arrays, "head/mean", width)
    _refuse_rest(arrays)
    half, centre = (high - low) / np.float32(2), (high + low) / np.float32(2)
    bias = head.bias * half + centre
    moved = head._replace(weight=_times(head.weight, half, head.outputs), bias=bias)
    return [*layers, moved, Clip(low, high)]


def stream_values(network: Arrays, inputs: int, start: int) -> list[Layer]:
    """Return the greedy policy of Stream Q: the number of the largest value.

    Args:
        network: arrays of a `StreamNetwork` with a linear head, by path.
        inputs: length of an observation.
        start: number of the first action.
    """
    arrays = dict(network)
    layers, width = _stream(arrays, inputs)
    head = linear(arrays, "head", width)
    _refuse_rest(arrays)
    return [*layers, head, _choice(head.outputs, start)]


def normed_values(
    network: Arrays, shape: tuple[int, ...], start: int, *, residual: bool
) -> list[Layer]:
    """Return the greedy policy of PQN: the number of the largest value.

    Args:
        network: arrays of a `NormedNetwork`, by path.
        shape: of an observation: `(length,)`, or `(height, width, channels)`.
        start: number of the first action.
        residual: as in `kanbatsu.nn.normed.NormedNetworkConfig`.
    """
    arrays, layers = dict(network), list[Layer]()
    norms, width = iter(numbered(arrays, "norms")), math.prod(shape)
    if "conv/bias" in arrays:
        height, columns, channels = shape
        bias, weight = take(arrays, "conv/bias"), weight_of(arrays, "conv/weight")
        sizes = (channels, height, columns, bias.size, WINDOW, 1)
        conv = Conv(weight, bias, *sizes, relu=False)
        layers += [conv, norm(arrays, next(norms)), RELU]
        width = conv.features
    for index, at in enumerate(numbered(arrays, "layers")):
        hidden = linear(arrays, at, width)
        branch = residual and index > 0
        layers += [
            *([Remember()] if branch else []),
            hidden,
            norm(arrays, next(norms)),
            RELU,
            *([Add()] if branch else []),
        ]
        width = hidden.outputs
    head = linear(arrays, "head", width)
    _refuse_rest(arrays)
    return [*layers, head, _choice(head.outputs, start)]


def _stream(arrays: dict[str, np.ndarray], width: int) -> tuple[list[Layer], int]:
    """Take the hidden layers of a `StreamNetwork` out of the arrays, with their width."""
    layers: list[Layer] = []
    for at in numbered(arrays, "layers"):
        hidden = linear(arrays, at, width)
        width = hidden.outputs
        scale, shift = np.ones(width, np.float32), np.zeros(width, np.float32)
        leaky = Activate("leaky_relu", NEGATIVE_SLOPE)
        layers += [hidden, LayerNorm(scale, shift, STREAM_NORM_EPSILON), leaky]
    return layers, width


def _choice(outputs: int, start: int) -> Choose:
    return Choose(np.array([outputs], np.int32), np.array([start], np.int32), scalar=True)


def _refuse_rest(arrays: Arrays) -> None:
    if arrays:
        raise ValueError(f"this network cannot be exported: it has {', '.join(arrays)}")


def _times(weight: Weight, factors: np.ndarray, outputs: int) -> Weight:
    """Multiply every output of a weight by a factor of its own."""
    match weight:
        case Dense(values):
            return Dense(values * factors)
        case Packed(values, starts):
            lists = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
            return weight._replace(values=values * factors[lists % outputs])
        case Grouped(values):
            groups, _, size = values.shape
            padded = np.zeros(groups * size, np.float32)
            padded[:outputs] = factors
            return weight._replace(values=values * padded.reshape(groups, 1, size))
