"""Pruned weights that store only what they keep: any weights (`Packed`) or groups (`Grouped`)."""

from __future__ import annotations

import abc
import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int32, Shaped, UInt16

from kanbatsu.kernels.constants import GROUP_SIZES, MOST_FEATURES
from kanbatsu.kernels.layouts import LAYOUTS
from kanbatsu.kernels.products import LayerSizes, affine, product
from kanbatsu.sparsity.fixed import Fixed, unfixed
from kanbatsu.sparsity.lists import list_groups, list_kept
from kanbatsu.sparsity.pruned import PrunedWeight


class Lists(eqx.Module):
    """The kept weights of a matrix, by block of rows, then by column, then by row."""

    starts: Int32[Array, " blocks_times_columns_and_one"] | Fixed
    """Beginning of the list of each column of each block; the last entry is their number."""
    sources: UInt16[Array, " kept"] | Fixed
    """The row of each weight."""

    @classmethod
    def of(cls, mask: Bool[np.ndarray, "rows columns"]) -> tuple[Lists, np.ndarray, np.ndarray]:
        """List the ones of a mask; also returns the row and the column of each, in that order."""
        starts, rows, columns = list_kept(mask)
        lists = cls(jnp.asarray(starts, jnp.int32), jnp.asarray(rows, jnp.uint16))
        return lists, rows, columns


class PackedWeight(PrunedWeight):
    """A pruned weight that stores what it keeps, on CPUs multiplied by kanbatsu's kernels."""

    values: eqx.AbstractVar[Array]
    inputs: eqx.AbstractVar[int]
    outputs: eqx.AbstractVar[int]
    outputs_first: eqx.AbstractVar[bool]

    @property
    @abc.abstractmethod
    def structure(self) -> tuple[Array, ...]:
        """The arrays that say where the values belong, as the products want them."""

    @property
    @abc.abstractmethod
    def sizes(self) -> LayerSizes:
        """Layout and sizes, as the products want them."""

    def multiply(self, x: Shaped[Array, "*batch inputs"]) -> Float[Array, "*batch outputs"]:
        """Return `x W`."""
        return product(x, self.values, self.structure, self.sizes)

    def affine(
        self, x: Shaped[Array, "*batch inputs"], bias: Float[Array, " outputs"], relu: bool
    ) -> Float[Array, "*batch outputs"]:
        """Return `x W + bias`, or its positive part."""
        return affine(x, self.values, bias, self.structure, self.sizes, relu)

    @property
    def array(self) -> Float[Array, "..."]:
        """The dense array."""
        layout = LAYOUTS[self.sizes.layout]
        dense = layout.to_dense(self.values, self.structure, self.inputs, self.outputs)
        return dense.T if self.outputs_first else dense

    def like(self, array: Float[Array, "..."]) -> Any:
        """Return a weight that keeps what this one keeps of a dense array."""
        layout, dense = LAYOUTS[self.sizes.layout], array.T if self.outputs_first else array
        values = layout.from_dense(dense, self.structure, self.sizes.group_size)
        return dataclasses.replace(self, values=values)

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the dense array."""
        pair = (self.inputs, self.outputs)
        return pair[::-1] if self.outputs_first else pair

    @property
    def dtype(self) -> Any:
        """Type of the values."""
        return self.values.dtype

    def __matmul__(self, x: Array) -> Array:
        return self.multiply(x) if self.outputs_first and x.ndim == 1 else self.array @ x

    def __rmatmul__(self, x: Array) -> Array:
        return x @ self.array if self.outputs_first else self.multiply(x)


class Packed(PackedWeight):
    """A pruned weight as a list of the values that it keeps, and where they belong.

    Everything that trains (gradient, moments, target, checkpoint) holds kept values only. On a
    CPU its products run in kanbatsu's kernels; elsewhere the dense weight is built first.

    Example:
        >>> from kanbatsu.sparsity.weight import matmul
        >>> weight = Packed.of(jnp.ones((2, 2)), jnp.array([[True, False], [True, True]]))
        >>> weight.values
        Array([1., 1., 1.], dtype=float32)
        >>> matmul(jnp.array([1.0, 10.0]), weight)
        Array([11., 10.], dtype=float32)
    """

    values: Float[Array, " kept"]
    """The kept weights, in the order of `by_output`."""
    by_output: Lists
    by_input: Lists
    order: Int32[Array, " kept"] | Fixed
    """The position in `values` of each weight in the order of `by_input`."""
    inputs: int = eqx.field(static=True)
    outputs: int = eqx.field(static=True)
    outputs_first: bool = eqx.field(static=True)
    """True where the dense weight is `[outputs, inputs]`."""

    @classmethod
    def of(
        cls, value: Float[Any, "..."], mask: Bool[Any, "..."], *, outputs_first: bool = False
    ) -> Packed:
        """Keep the values where the mask is True.

        Args:
            value: `[inputs, outputs]`, or `[outputs, inputs]` with `outputs_first`.
            mask: the same shape, True = kept.
            outputs_first: which of the two it is.

        Raises:
            ValueError: if the shapes differ, or there are more than 65,536 inputs or outputs.
        """
        value, mask = _inputs_first(value, mask, outputs_first)
        if max(mask.shape) > MOST_FEATURES:
            raise ValueError(
                f"a packed weight has at most {MOST_FEATURES:,} inputs and outputs: this one is "
                f"{mask.shape}; keep it masked, or choose the grouped pattern"
            )
        by_output, inputs, outputs = Lists.of(mask)
        by_input, *transposed = Lists.of(mask.T)
        position = np.empty(mask.shape, np.int32)
        position[inputs, outputs] = np.arange(inputs.size)
        return cls(
            values=value[inputs, outputs],
            by_output=by_output,
            by_input=by_input,
            order=jnp.asarray(position.T[tuple(transposed)]),
            inputs=mask.shape[0],
            outputs=mask.shape[1],
            outputs_first=outputs_first,
        )

    @property
    def kept(self) -> int:
        """Number of weights that exist."""
        return self.values.shape[0]

    @property
    def structure(self) -> tuple[Array, ...]:
        """The arrays that say where the values belong, as the products want them."""
        lists = (self.by_output, self.by_input)
        arrays = (array for by in lists for array in (by.starts, by.sources))
        return tuple(map(unfixed, (*arrays, self.order)))

    @property
    def sizes(self) -> LayerSizes:
        """Layout and sizes, as the products want them."""
        return LayerSizes("packed", self.inputs, self.outputs, group_size=1)


class Grouped(PackedWeight):
    """A pruned weight in which neighbouring outputs share one list of inputs.

    Stored as small dense blocks, which multiply nearly as fast, weight for weight, as a dense
    matrix does. Otherwise as `Packed`.

    Example:
        >>> from kanbatsu.sparsity.weight import matmul
        >>> mask = jnp.repeat(jnp.array([[True, False], [False, True]]), 8, axis=1)
        >>> weight = Grouped.of(jnp.ones((2, 16)), mask, group_size=8)
        >>> weight.values.shape, weight.sources
        ((2, 1, 8), Array([[0],
               [1]], dtype=int32))
    """

    values: Float[Array, "groups kept_inputs group_size"]
    """Zero beyond the last output, where the last group is not full."""
    sources: Int32[Array, "groups kept_inputs"] | Fixed
    """The inputs that each group keeps, ascending."""
    inputs: int = eqx.field(static=True)
    outputs: int = eqx.field(static=True)
    outputs_first: bool = eqx.field(static=True)
    """True where the dense weight is `[outputs, inputs]`."""

    @classmethod
    def of(
        cls,
        value: Float[Any, "..."],
        mask: Bool[Any, "..."],
        *,
        group_size: int,
        outputs_first: bool = False,
    ) -> Grouped:
        """Keep the values where the mask is True.

        Args:
            value: `[inputs, outputs]`, or `[outputs, inputs]` with `outputs_first`.
            mask: the same shape, True = kept; the outputs of a group keep the same inputs, and
                every group keeps as many.
            group_size: 8, 16 or 32.
            outputs_first: which of the two shapes it is.

        Raises:
            ValueError: for another group size, or a mask that is not of that pattern.
        """
        if group_size not in GROUP_SIZES:
            raise ValueError(f"group_size must be one of {GROUP_SIZES}: got {group_size}")
        value, mask = _inputs_first(value, mask, outputs_first)
        rows = list_groups(mask, group_size)
        if rows is None:
            raise ValueError(f"the mask does not keep as many inputs for groups of {group_size}")
        inputs, outputs = mask.shape
        sources = jnp.asarray(rows, jnp.int32)
        return cls(
            values=LAYOUTS["grouped"].from_dense(value, (sources,), group_size),
            sources=sources,
            inputs=inputs,
            outputs=outputs,
            outputs_first=outputs_first,
        )

    @property
    def kept(self) -> int:
        """Number of weights that exist."""
        return self.sources.shape[1] * self.outputs

    @property
    def structure(self) -> tuple[Array, ...]:
        """The array that says where the values belong, as the products want it."""
        return (unfixed(self.sources),)

    @property
    def sizes(self) -> LayerSizes:
        """Layout and sizes, as the products want them."""
        return LayerSizes("grouped", self.inputs, self.outputs, self.values.shape[2])


def _inputs_first(value: Any, mask: Any, outputs_first: bool) -> tuple[jax.Array, np.ndarray]:
    value, mask = jnp.asarray(value), np.asarray(mask)
    if value.shape != mask.shape or mask.ndim != 2:
        raise ValueError(
            f"the mask {mask.shape} must have the weight's shape {value.shape}, of two axes"
        )
    return (value.T, mask.T) if outputs_first else (value, mask)
