"""Where the kept values of a weight belong, so that a tree of parameters need hold those alone."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from kanbatsu.kernels.constants import MOST_FEATURES
from kanbatsu.kernels.layouts import LAYOUTS, Structure
from kanbatsu.kernels.products import LayerSizes, affine, product
from kanbatsu.sparsity.kept_name import KeptName
from kanbatsu.sparsity.packed import Grouped, Packed
from kanbatsu.sparsity.pattern import group_size_of
from kanbatsu.sparsity.worth import MOST_KEPT


class Matrix(NamedTuple):
    """The places of one matrix, as kanbatsu's kernels read them."""

    structure: Structure
    sizes: LayerSizes

    @classmethod
    def of(cls, mask: Bool[np.ndarray, "inputs outputs"], group_size: int) -> Matrix:
        """List the kept weights of a mask, in groups or (group size 1) one by one."""
        nothing = np.zeros(mask.shape, np.float32)
        weight = (
            Packed.of(nothing, mask)
            if group_size == 1
            else Grouped.of(nothing, mask, group_size=group_size)
        )
        return cls(weight.structure, weight.sizes)

    def values(self, dense: Array) -> Array:
        """Return the kept values of a dense matrix."""
        layout = LAYOUTS[self.sizes.layout]
        return layout.from_dense(dense, self.structure, self.sizes.group_size)

    def dense(self, values: Array) -> Array:
        """Return the dense matrix, zero where pruned."""
        layout = LAYOUTS[self.sizes.layout]
        return layout.to_dense(values, self.structure, self.sizes.inputs, self.sizes.outputs)

    def multiply(self, x: Array, values: Array, bias: Array | None = None) -> Array:
        """Return `x W + bias`, `[..., outputs]`."""
        if bias is None:
            return product(x, values, self.structure, self.sizes)
        return affine(x, values, bias, self.structure, self.sizes, relu=False)


@dataclass(frozen=True, eq=False, repr=False)
class Places:
    """Where the kept values of a weight belong.

    Values are a vector, or groups `[groups, inputs, group_size]` where the pattern is grouped; with
    one axis in front where the weight is an ensemble of matrices.

    Example:
        >>> places = Places.of(np.array([[True, False], [True, True]]))
        >>> values = places.values(jnp.array([[1.0, 2.0], [3.0, 4.0]]))
        >>> values.tolist(), places.dense(values).tolist()
        ([1.0, 3.0, 4.0], [[1.0, 0.0], [3.0, 4.0]])
    """

    name: KeptName
    """The name of the values; that of the weight itself is for `named` to set."""
    matrices: tuple[Matrix, ...]
    """One for each member of an ensemble, or one; none where the kernels cannot multiply by it."""
    positions: np.ndarray
    """Where there is no matrix, the place of each value in the flat weight; else nothing."""
    kept: int
    """Number of weights that exist."""

    @classmethod
    def of(cls, mask: Bool[Any, "..."], weight: str = "kernel") -> Places:
        """Find the layout of a mask: grouped where it is of that pattern, else weight by weight.

        Args:
            mask: True = kept; `[inputs, outputs]`, the same with members in front, or any other
                shape, whose values are a vector that no kernel multiplies by.
            weight: the name of the weight.
        """
        mask = np.asarray(mask)
        digest = hashlib.blake2b(np.packbits(mask).tobytes(), digest_size=4).hexdigest()
        kept = int(mask.sum())
        # The caller may be compiling something, and these arrays are to be known.
        with jax.ensure_compile_time_eval():
            size, members = _layout(mask)
            matrices = tuple(Matrix.of(member, size) for member in members)
        positions = np.zeros(0, np.int32) if matrices else np.flatnonzero(mask).astype(np.int32)
        return cls(KeptName(weight, mask.shape, size, digest), matrices, positions, kept)

    @property
    def share(self) -> float:
        """Share of the weights that exist."""
        return self.kept / int(np.prod(self.name.shape))

    def values(self, dense: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return the kept values of a dense array."""
        if not self.matrices:
            return dense.reshape(-1)[self.positions]
        if len(self.name.shape) == 2:
            return self.matrices[0].values(dense)
        return jnp.stack([m.values(dense[i]) for i, m in enumerate(self.matrices)])

    def dense(self, values: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return the dense array, zero where pruned."""
        if not self.matrices:
            flat = jnp.zeros(int(np.prod(self.name.shape)), values.dtype)
            places = flat.at[self.positions].set(values, unique_indices=True)
            return places.reshape(self.name.shape)
        if len(self.name.shape) == 2:
            return self.matrices[0].dense(values)
        return jnp.stack([m.dense(values[i]) for i, m in enumerate(self.matrices)])

    def mask(self) -> Bool[np.ndarray, "..."]:
        """Return the mask, True where a value belongs."""
        with jax.ensure_compile_time_eval():
            values = self.values(jnp.ones(self.name.shape))
            return np.asarray(self.dense(values)) > 0

    def are_multiplied(self, compute: str) -> bool:
        """Return whether the kernels multiply by the values; else a dense product does.

        Args:
            compute: `masked`, `mixed` or `packed`.
        """
        if compute != "mixed" or not self.matrices:
            return compute == "packed" and bool(self.matrices)
        most = MOST_KEPT.singly if self.name.group_size == 1 else MOST_KEPT.in_groups
        return self.share <= most


def _layout(mask: np.ndarray) -> tuple[int, list[np.ndarray]]:
    """The group size of a mask (1 for none), and its matrices (none where it has none)."""
    if mask.ndim not in (2, 3) or not mask.any():
        return 1, []
    members = list(mask.reshape(-1, *mask.shape[-2:]))
    sizes = {group_size_of(member) for member in members}
    size = sizes.pop() if len(sizes) == 1 else None
    listable = size is not None or max(mask.shape[-2:]) <= MOST_FEATURES
    as_many = len({int(member.sum()) for member in members}) == 1
    return (size or 1, members) if listable and as_many else (1, [])
