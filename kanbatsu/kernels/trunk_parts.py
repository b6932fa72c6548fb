"""What a residual trunk of pruned layers is made of, and what it makes."""

from __future__ import annotations

from typing import NamedTuple

import jax

from kanbatsu.kernels.layouts import LAYOUTS, Layout, Structure
from kanbatsu.kernels.products import Shape

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


class Statistics(NamedTuple):
    """What the gradient of a norm needs."""

    mean: Array
    """`[tiles, 1, lanes]`."""
    deviation: Array
    """`[tiles, 1, lanes]`, the root of variance plus epsilon."""


class Trace(NamedTuple):
    """What a block made of its input."""

    normed: Array
    statistics: Statistics
    hidden: Array
    """The output of its ReLU."""
    output: Array


class Traces(NamedTuple):
    """All that the gradients need of a forward pass."""

    input: Array
    blocks: tuple[Trace, ...]
    last: Statistics


class Errors(NamedTuple):
    """Gradients of what a block made."""

    normed: Array
    hidden: Array
    """Before the ReLU."""
    output: Array
