"""Which weights of a layer stay: a key, a shape and a count become a boolean mask, True = kept.

Masks are drawn on the host, once, from the bits of a JAX key, or of a `Threefry`, which gives the
same ones without JAX: the same key gives the same mask on every device. A shape is `(*window,
inputs, outputs)`; callers transpose for other layouts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

from kanbatsu.kernels.constants import GROUP_SIZES
from kanbatsu.sparsity import keys
from kanbatsu.sparsity.allocate import Shape
from kanbatsu.sparsity.config import PATTERNS, check_choice
from kanbatsu.sparsity.keys import Key


def granule(shape: Shape, pattern: str) -> int:
    """Return the step in which a layer's count can move under a pattern.

    Example:
        >>> granule((88, 512), "element"), granule((88, 512), "grouped")
        (1, 512)
        >>> granule((3, 3, 9, 32), "grouped"), granule((3, 3, 9, 32), "channel")
        (32, 288)

    Raises:
        ValueError: for an unknown pattern.
    """
    check_choice("pattern", pattern, PATTERNS)
    if pattern == "channel":
        return math.prod(shape[:-2]) * shape[-1]
    return shape[-1] if pattern == "grouped" else 1


def draw(
    key: Key, shape: Shape, kept: int, pattern: str = "element", group_size: int = 16
) -> Bool[np.ndarray, "..."]:
    """Draw a mask with exactly `kept` ones (`bernoulli`: with that many on average).

    Args:
        key: a JAX random key, or a `Threefry`.
        shape: `(*window, inputs, outputs)`.
        kept: how many weights stay, a multiple of `granule(shape, pattern)`.
        pattern: `element`; `grouped`; `channel`, which is `grouped` with a convolution's whole
            window of each input channel; or `bernoulli`, which keeps each element with the same
            probability and lets the count vary, as the paper's public code does.
        group_size: outputs per group; read by `grouped` and `channel` only.

    Returns:
        A boolean array of that shape.

    Raises:
        ValueError: for an unknown pattern, or a count that the pattern cannot hold.

    Example:
        >>> from kanbatsu.sparsity.threefry import Threefry
        >>> draw(Threefry.of(0), (4, 6), kept=8).sum()
        np.int64(8)
    """
    step = granule(shape, pattern)
    if not 0 <= kept <= math.prod(shape) or kept % step:
        raise ValueError(f"{pattern} cannot keep {kept} of {shape}: it moves in steps of {step}")
    if pattern == "bernoulli":
        return keys.bernoulli(key, kept / math.prod(shape), shape)
    if pattern == "element":
        return _smallest(key, (1, math.prod(shape)), kept).reshape(shape)
    if pattern == "channel":
        channels = _grouped(key, shape[-2:], kept // step, group_size)
        return np.broadcast_to(channels, shape).copy()
    return _grouped(key, shape, kept // shape[-1], group_size)


def draw_each(
    key: Key,
    shapes: Sequence[Shape],
    kept: Sequence[int],
    pattern: str = "element",
    group_size: int = 16,
) -> list[Bool[np.ndarray, "..."]]:
    """Draw one mask for each layer, every one from its own share of the key.

    Args:
        key: a JAX random key, or a `Threefry`.
        shapes: one per layer; their order decides which share of the key a layer gets.
        kept: how many weights of each layer stay.
        pattern: `element`, `grouped`, `channel` or `bernoulli`: see `draw`.
        group_size: outputs per group; read by `grouped` and `channel` only.

    Example:
        >>> from kanbatsu.sparsity.threefry import Threefry
        >>> [mask.sum() for mask in draw_each(Threefry.of(0), [(4, 6), (6, 1)], kept=[8, 3])]
        [np.int64(8), np.int64(3)]
    """
    layer_keys = keys.split(key, len(shapes))
    return [
        draw(layer_key, shape, count, pattern, group_size)
        for layer_key, shape, count in zip(layer_keys, shapes, kept, strict=True)
    ]


def group_size_of(mask: Bool[np.ndarray, "inputs outputs"]) -> int | None:
    """Return the largest group size that kernels know of which a mask is made, if there is one.

    Groups are outputs that lie beside each other and keep the same inputs; all keep as many.

    Example:
        >>> lists = np.array([[True, False], [False, True]])
        >>> group_size_of(np.repeat(lists, 8, axis=1)), group_size_of(lists)
        (8, None)
    """
    for size in sorted(GROUP_SIZES, reverse=True):
        lists = mask[:, ::size]
        same_number = size <= mask.shape[1] and np.ptp(lists.sum(axis=0)) == 0
        if same_number and (np.repeat(lists, size, axis=1)[:, : mask.shape[1]] == mask).all():
            return size
    return None


def _grouped(key: Key, shape: Shape, inputs_kept: int, group_size: int) -> np.ndarray:
    """Give each group of neighbouring outputs its own random list of inputs.

    The last group is smaller where the outputs are not a multiple of the group size.
    """
    if group_size < 1:
        raise ValueError(f"group_size must be at least 1: got {group_size}")
    inputs, outputs = math.prod(shape[:-1]), shape[-1]
    lists = _smallest(key, (math.ceil(outputs / group_size), inputs), inputs_kept)
    return np.repeat(lists.T, group_size, axis=1)[:, :outputs].reshape(shape)


def _smallest(key: Key, shape: tuple[int, int], kept: int) -> np.ndarray:
    """True at the `kept` smallest of each row of random numbers: a uniform draw, exact in count."""
    if kept == shape[1]:
        return np.ones(shape, dtype=bool)
    bits = keys.bits(key, shape).astype(np.uint64)
    # The position in the low half breaks ties, so that no two numbers of a row are equal.
    order = (bits << np.uint64(32)) | np.arange(shape[1], dtype=np.uint64)
    return order < np.partition(order, kept, axis=1)[:, kept : kept + 1]
