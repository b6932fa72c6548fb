"""The two ways to store a pruned weight, as the kernels read them, and what they mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

Array = jax.Array
Structure = tuple[Array, ...]
"""Integer arrays that say where the values belong; see the functions of this file."""


class Layout(NamedTuple):
    """A way to store a weight, as the products need to know it."""

    to_dense: Callable[[Array, Structure, int, int], Array]
    """`(values, structure, inputs, outputs)` to `[inputs, outputs]`."""
    from_dense: Callable[[Array, Structure, int], Array]
    """The kept entries of `[inputs, outputs]`: `(dense, structure, group_size)` to values."""
    forwards: Callable[[Structure], Structure]
    """The part of the structure that a product and a weight gradient read."""
    backwards: Callable[[Structure], Structure]
    """The part that an input gradient reads."""
    reorders: bool
    """True where an input gradient needs room for the values in another order."""
    lanes: int
    """Samples in a tile of activations."""


def _packed_positions(structure: Structure, outputs: int) -> tuple[Array, Array]:
    """Input and output of every value."""
    starts, sources, *_ = structure
    lists = jnp.arange(starts.shape[0] - 1) % outputs
    return sources, jnp.repeat(lists, jnp.diff(starts), total_repeat_length=sources.shape[0])


def _packed_to_dense(values: Array, structure: Structure, inputs: int, outputs: int) -> Array:
    at = _packed_positions(structure, outputs)
    return jnp.zeros((inputs, outputs), values.dtype).at[at].set(values)


def _packed_from_dense(dense: Array, structure: Structure, group_size: int) -> Array:
    return dense[_packed_positions(structure, dense.shape[1])]


def _grouped_positions(structure: Structure, group_size: int) -> tuple[Array, Array]:
    (sources,) = structure
    outputs = jnp.arange(sources.shape[0] * group_size).reshape(-1, 1, group_size)
    return sources[:, :, None], outputs


def _grouped_to_dense(values: Array, structure: Structure, inputs: int, outputs: int) -> Array:
    at = _grouped_positions(structure, values.shape[2])
    return jnp.zeros((inputs, outputs), values.dtype).at[at].set(values, mode="drop")


def _grouped_from_dense(dense: Array, structure: Structure, group_size: int) -> Array:
    return dense.at[_grouped_positions(structure, group_size)].get(mode="fill", fill_value=0.0)


LAYOUTS = {
    "packed": Layout(
        _packed_to_dense,
        _packed_from_dense,
        forwards=lambda structure: structure[:2],
        backwards=lambda structure: structure[2:],
        reorders=True,
        lanes=32,
    ),
    "grouped": Layout(
        _grouped_to_dense,
        _grouped_from_dense,
        forwards=lambda structure: structure,
        backwards=lambda structure: structure,
        reorders=False,
        lanes=16,
    ),
}
"""`packed`: values `[kept]` by block of inputs, then by output, then by input; structure `starts
[blocks * outputs + 1]` (where the list of each output of each block begins) and `sources [kept]`
(the input of each value), then the same of the transposed weight, and `order [kept]`, the position
of each of its values in `values`.

`grouped`: values `[groups, kept, group_size]`, zero beyond the last output; structure `sources
[groups, kept]`, the inputs that a group keeps."""
