"""What a policy is made of: the layers, in order, as plain numpy arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from kanbatsu.kernels.constants import BLOCK


class Dense(NamedTuple):
    """Every weight."""

    values: np.ndarray
    """float32 `[inputs, outputs]`."""


class Packed(NamedTuple):
    """The kept weights, by block of inputs, then by output, then by input."""

    values: np.ndarray
    """float32 `[kept]`."""
    starts: np.ndarray
    """int32 `[blocks * outputs + 1]`: where the list of each output of each block begins."""
    sources: np.ndarray
    """uint16 `[kept]`: the input of each weight."""


class Grouped(NamedTuple):
    """The kept weights of neighbouring outputs that share their inputs."""

    values: np.ndarray
    """float32 `[groups, kept, group_size]`; zero beyond the last output."""
    sources: np.ndarray
    """int32 `[groups, kept]`: the inputs that a group keeps."""


Weight = Dense | Packed | Grouped


class Normalise(NamedTuple):
    """`(x - mean) / scale`, the first layer of every policy."""

    mean: np.ndarray
    scale: np.ndarray


class Remember(NamedTuple):
    """Keep the features for a later `Add`: a residual branch begins."""


class Add(NamedTuple):
    """Add what was remembered: the branch ends."""


class LayerNorm(NamedTuple):
    """Mean 0 and variance 1 over the features, times `scale`, plus `shift`.

    After a convolution, `scale` may have the length of its channels: each place is then brought to
    mean 0 and variance 1 by itself.
    """

    scale: np.ndarray
    shift: np.ndarray
    epsilon: float


class Linear(NamedTuple):
    """`x W + bias`, or its positive part."""

    weight: Weight
    bias: np.ndarray
    inputs: int
    outputs: int
    relu: bool


class ChannelsLast(NamedTuple):
    """From an image that is laid out channel by channel to one that is laid out pixel by pixel."""

    channels: int
    pixels: int


class Conv(NamedTuple):
    """A convolution of an image, laid out pixel by pixel, without padding.

    Each patch of the image, row by row and pixel by pixel, is multiplied as by a `Linear`.
    """

    weight: Weight
    bias: np.ndarray
    channels: int
    height: int
    width: int
    outputs: int
    """Channels of the result."""
    window: int
    """Height and width of a patch."""
    stride: int
    """Pixels from one patch to the next."""
    relu: bool

    @property
    def inputs(self) -> int:
        """Numbers of a patch."""
        return self.window**2 * self.channels

    @property
    def rows(self) -> int:
        """Rows of patches, which is the height of the result."""
        return (self.height - self.window) // self.stride + 1

    @property
    def columns(self) -> int:
        """Columns of patches, which is the width of the result."""
        return (self.width - self.window) // self.stride + 1

    @property
    def features(self) -> int:
        """Numbers of the result."""
        return self.rows * self.columns * self.outputs


class Activate(NamedTuple):
    """An activation of `kanbatsu.deploy.functions`, entry by entry."""

    function: str
    alpha: float


class Clip(NamedTuple):
    """Every entry brought between two bounds; as the last layer, an action that is not squashed."""

    low: np.ndarray
    high: np.ndarray


class Choose(NamedTuple):
    """The number of the largest of each row of scores: the last layer where actions are choices."""

    sizes: np.ndarray
    """int32 `[choices]`: scores of each choice; they lie end to end."""
    starts: np.ndarray
    """int32 `[choices]`: number of the first option of each choice."""
    scalar: bool
    """Flag of an action that is one number, and no list of one."""


class Squash(NamedTuple):
    """tanh, then from [-1, 1] to the bounds of the action: the last layer of squashed actions."""

    low: np.ndarray
    high: np.ndarray

    @property
    def centre(self) -> np.ndarray:
        """The action that an output of 0 means."""
        return (self.low + self.high) / np.float32(2)

    @property
    def half(self) -> np.ndarray:
        """Distance from the centre to the action that an output of 1 means."""
        return (self.high - self.low) / np.float32(2)


End = Squash | Clip | Choose
Product = Linear | Conv
"""Layers with a weight."""
Layer = (
    Normalise
    | ChannelsLast
    | Conv
    | Remember
    | Add
    | LayerNorm
    | Linear
    | Activate
    | Clip
    | Choose
    | Squash
)


def blocks(inputs: int) -> int:
    """Return how many blocks of inputs a packed weight has."""
    return math.ceil(inputs / BLOCK)


def check_lists(weight: Packed | Grouped, inputs: int, outputs: int) -> None:
    """Refuse lists that run backwards, leave the layer, or name an input twice.

    A repeated input would be added by compiled kernels and overwritten by others: two policies.

    Raises:
        ValueError: if they do; the message says what is wrong.
    """
    sources = weight.sources.astype(np.int64)
    if isinstance(weight, Packed):
        lengths = np.diff(weight.starts)
        if weight.starts[0] != 0 or weight.starts[-1] != sources.size or lengths.min() < 0:
            raise ValueError("its lists overlap")
        lists = np.repeat(np.arange(lengths.size), lengths)
        strayed = (sources // BLOCK != lists // outputs).any()
        places = lists * inputs + sources
    else:
        strayed = False
        places = np.arange(len(sources))[:, None] * inputs + sources
    if strayed or ((sources < 0) | (sources >= inputs)).any():
        raise ValueError("it names an input that does not exist")
    in_order = np.sort(places, axis=None)
    if (in_order[1:] == in_order[:-1]).any():
        raise ValueError("it names an input twice")


def with_dense_weights(layers: Sequence[Layer]) -> list[Layer]:
    """Return the layers with every weight dense, as `run` takes them."""
    return [
        layer._replace(weight=Dense(to_dense(layer))) if isinstance(layer, Product) else layer
        for layer in layers
    ]


def width_after(layer: Layer, width: int) -> int:
    """Return how many features there are after a layer, of how many before it.

    Example:
        >>> width_after(Add(), 8)
        8
    """
    match layer:
        case Normalise(mean):
            return mean.size
        case Linear(outputs=outputs):
            return outputs
        case Conv():
            return layer.features
        case Choose(sizes):
            return sizes.size
    return width


def to_dense(layer: Product) -> np.ndarray:
    """Return the weight of a layer as float32 `[inputs, outputs]`; `check_lists` comes first.

    Example:
        >>> values = np.arange(8, dtype=np.float32).reshape(1, 1, 8)
        >>> weight = Grouped(values, np.array([[1]], np.int32))
        >>> to_dense(Linear(weight, np.zeros(2), inputs=2, outputs=2, relu=False)).tolist()
        [[0.0, 0.0], [0.0, 1.0]]
    """
    weight, inputs, outputs = layer.weight, layer.inputs, layer.outputs
    if isinstance(weight, Dense):
        return weight.values
    if isinstance(weight, Grouped):
        groups, _, size = weight.values.shape
        padded = np.zeros((inputs, groups * size), np.float32)
        padded[weight.sources[:, :, None], np.arange(groups * size).reshape(-1, 1, size)] = (
            weight.values
        )
        return padded[:, :outputs]
    lengths = np.diff(weight.starts)
    lists = np.repeat(np.arange(lengths.size), lengths)
    dense = np.zeros((inputs, outputs), np.float32)
    dense[weight.sources, lists % outputs] = weight.values
    return dense
