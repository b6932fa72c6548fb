"""Parts of a residual trunk of pruned layers, and of its results."""

from __future__ import annotations

from typing import NamedTuple

import jax

from kanbatsu.kernels.layouts import LAYOUTS, Layout, Structure
from kanbatsu.kernels.products import LayerSizes

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
    """One block: a norm and two layers."""

    norm: Norm
    up: Affine
    down: Affine


class TrunkSizes(NamedTuple):
    """Sizes of the layers of a block, equal for all blocks, and the epsilon of every norm."""

    up: LayerSizes
    down: LayerSizes
    epsilon: float

    @property
    def layout(self) -> Layout:
        """Layout in which the weights are stored."""
        return LAYOUTS[self.up.layout]


# What a trunk makes lies in tiles, `[tiles, features, lanes]`: sample `t * lanes + l` is at `[t, :,
# l]`, and samples beyond the batch are zeros on the way in.


class Statistics(NamedTuple):
    """Mean and deviation of each sample, for the gradient of a norm."""

    mean: Array
    """`[tiles, 1, lanes]`."""
    deviation: Array
    """`[tiles, 1, lanes]`, the root of variance plus epsilon."""


class Trace(NamedTuple):
    """Results of a block, step by step."""

    normed: Array
    statistics: Statistics
    hidden: Array
    """The output of its ReLU."""
    output: Array


class Traces(NamedTuple):
    """Results of a forward pass that the gradients need."""

    input: Array
    blocks: tuple[Trace, ...]
    last: Statistics


class Errors(NamedTuple):
    """Gradients of the results of a block."""

    normed: Array
    hidden: Array
    """Before the ReLU."""
    output: Array
