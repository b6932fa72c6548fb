"""Random pruned layers, built by plain loops that share no code with what they test."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

from kanbatsu.kernels.products import LayerSizes

BLOCK = 1024


class Layer(NamedTuple):
    """A weight as the kernels take it, and the dense weight that it stands for."""

    dense: np.ndarray
    """`[inputs, outputs]`, zero where pruned."""
    values: jnp.ndarray
    structure: tuple[jnp.ndarray, ...]
    shape: LayerSizes
    inputs_of: np.ndarray
    """The input of each value."""
    outputs_of: np.ndarray
    """The output of each value; beyond the last one where a group is not full."""

    def values_of(self, dense: np.ndarray) -> np.ndarray:
        """Return the kept entries of `[inputs, outputs]`, in the order of `values`."""
        exists = self.outputs_of < dense.shape[1]
        entries = dense[self.inputs_of, np.where(exists, self.outputs_of, 0)]
        return np.where(exists, entries, 0)


def _lists(mask: np.ndarray) -> tuple[list[int], list[int], list[int]]:
    """List the rows of each column, block by block of rows; also the column of each."""
    starts, rows, columns = [0], [], []
    for first in range(0, mask.shape[0], BLOCK):
        for column in range(mask.shape[1]):
            here = first + np.flatnonzero(mask[first : first + BLOCK, column])
            rows += here.tolist()
            columns += [column] * here.size
            starts.append(len(rows))
    return starts, rows, columns


def _packed(dense: np.ndarray, mask: np.ndarray) -> Layer:
    starts, rows, columns = _lists(mask)
    back_starts, back_rows, back_columns = _lists(mask.T)
    position = {at: index for index, at in enumerate(zip(rows, columns, strict=True))}
    order = [position[at] for at in zip(back_columns, back_rows, strict=True)]
    structure = (
        jnp.array(np.array(starts, np.int32)),
        jnp.array(np.array(rows, np.uint16)),
        jnp.array(np.array(back_starts, np.int32)),
        jnp.array(np.array(back_rows, np.uint16)),
        jnp.array(np.array(order, np.int32)),
    )
    at = np.array(rows), np.array(columns)
    return Layer(dense, jnp.array(dense[at]), structure, LayerSizes("packed", *dense.shape, 1), *at)


def _grouped(dense: np.ndarray, lists: np.ndarray, size: int) -> Layer:
    groups = lists.shape[1]
    sources = np.array([np.flatnonzero(lists[:, group]) for group in range(groups)])
    outputs_of = np.arange(groups * size).reshape(groups, 1, size)
    inputs_of, outputs_of = np.broadcast_arrays(sources[:, :, None], outputs_of)
    shape = LayerSizes("grouped", *dense.shape, size)
    structure = (jnp.array(sources.astype(np.int32)),)
    layer = Layer(dense, jnp.zeros(0), structure, shape, inputs_of, outputs_of)
    return layer._replace(values=jnp.array(layer.values_of(dense)))


def _make_layer(
    inputs: int, outputs: int, share: float, group_size: int = 1, seed: int = 0, whole: bool = False
) -> Layer:
    """Draw a layer.

    Args:
        inputs: of the layer.
        outputs: of the layer.
        share: of the weights (of the inputs of each group), to keep; at least one is kept.
        group_size: 1 for the packed layout, else grouped.
        seed: of everything drawn.
        whole: whether values are small whole numbers, whose sums are exact in any order.
    """
    generator = np.random.default_rng(seed)
    value = generator.standard_normal((inputs, outputs))
    value = np.where(value < 0, -1, 1) * generator.integers(1, 4, value.shape) if whole else value
    columns = 1 if group_size == 1 else -(-outputs // group_size)
    rows = inputs * outputs if group_size == 1 else inputs
    rank = generator.random((rows, columns)).argsort(axis=0).argsort(axis=0)
    kept = rank < max(1, round(share * rows))
    if group_size == 1:
        mask = kept.reshape(inputs, outputs)
    else:
        mask = np.repeat(kept, group_size, axis=1)[:, :outputs]
    dense = np.where(mask, value, 0).astype(np.float32)
    return _packed(dense, mask) if group_size == 1 else _grouped(dense, kept, group_size)


@pytest.fixture(scope="session")
def make_layer() -> Callable[..., Layer]:
    return _make_layer
