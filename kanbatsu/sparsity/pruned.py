"""The base of all pruned weights, however they store what they keep."""

from __future__ import annotations

import abc
import math
import operator
from collections.abc import Callable
from typing import Any

import equinox as eqx
from jaxtyping import Array, Float


class PrunedWeight(eqx.Module):
    """A weight of which a part is removed for good.

    It may take the place of an array in a layer of another library that computes `weight @ x`.
    Arithmetic with numbers and arrays gives a weight that is pruned alike.
    """

    @property
    @abc.abstractmethod
    def array(self) -> Float[Array, "..."]:
        """The dense array, with a gradient that is zero where pruned."""

    @property
    @abc.abstractmethod
    def kept(self) -> int:
        """Number of weights that exist."""

    @property
    @abc.abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of the dense array."""

    @property
    @abc.abstractmethod
    def dtype(self) -> Any:
        """Type of the values."""

    @abc.abstractmethod
    def like(self, array: Float[Array, "..."]) -> Any:
        """Return a weight that is pruned alike, with the values of a dense array.

        Args:
            array: any array of the weight's shape; what it holds where this one is pruned is lost.
        """

    @property
    def ndim(self) -> int:
        """Number of axes of the dense array."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of entries of the dense array."""
        return math.prod(self.shape)

    def __matmul__(self, x: Array) -> Array:
        return self.array @ x

    def __rmatmul__(self, x: Array) -> Array:
        return x @ self.array

    def __mul__(self, other: Any) -> Any:
        return self._apply(operator.mul, other)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Any:
        return self._apply(operator.truediv, other)

    def __add__(self, other: Any) -> Any:
        return self._apply(operator.add, other)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        return self._apply(operator.sub, other)

    def __neg__(self) -> Any:
        return self.like(-self.array)

    def _apply(self, operation: Callable[[Array, Any], Array], other: Any) -> Any:
        dense = operation(self.array, other.array if isinstance(other, PrunedWeight) else other)
        return self.like(dense) if dense.shape == self.shape else dense
