"""Arrays that are part of a model's form, as its sizes are: no leaves, so nothing trains them."""

from __future__ import annotations

import functools
import hashlib
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import GetAttrKey

Weight = TypeVar("Weight")


OTHER_WEIGHTS = (
    "these weights were saved from a model that keeps others: prune the model that you load them "
    "into with the key and the arguments of the one that was saved"
)


class Stamp(int):
    """A number that goes with an array into saved weights, and tells it from others."""


class Content:
    """An array that is compared and hashed by what it holds, as static parts of a tree must be."""

    def __init__(self, array: jax.Array):
        self.array = array

    @functools.cached_property
    def digest(self) -> bytes:
        """Digest of the array's type, shape and entries."""
        array = np.asarray(self.array)
        kind = f"{array.dtype}{array.shape}".encode()
        return hashlib.blake2b(kind + array.tobytes(), digest_size=16).digest()

    @property
    def stamp(self) -> Stamp:
        """Stamp of the array: the first 31 bits of its digest."""
        return Stamp(int.from_bytes(self.digest[:4], "big") >> 1)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Content) and (self is other or self.digest == other.digest)

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"places of kept weights {self.digest.hex()[:8]}"


@jax.tree_util.register_pytree_with_keys_class
class Fixed:
    """An array in a tree that `jit` takes for a constant and no filter takes for a parameter.

    It reads as the array that it holds. Its one leaf is a stamp, a plain number, so that weights
    that were saved are not loaded into a model which keeps others.

    Example:
        >>> fixed = Fixed(jnp.array([True, False]))
        >>> [isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(fixed)]
        [False]
        >>> int(fixed.sum())
        1
    """

    def __init__(self, array: Any):
        fixed = isinstance(array, Fixed)
        self.content = array.content if fixed else Content(jnp.asarray(array))
        self.stamp: Any = self.content.stamp

    def tree_flatten_with_keys(self) -> tuple[Any, Content]:
        """Return the stamp, with its name, and the array."""
        return ((GetAttrKey("stamp"), self.stamp),), self.content

    @classmethod
    def tree_unflatten(cls, content: Content, leaves: tuple[Any]) -> Fixed:
        """Put it together again, around whatever a transformation made of the stamp.

        Raises:
            ValueError: if it is the stamp of another array.
        """
        (stamp,) = leaves
        if isinstance(stamp, Stamp) and stamp != content.stamp:
            raise ValueError(OTHER_WEIGHTS)
        fixed = object.__new__(cls)
        fixed.content = content
        fixed.stamp = content.stamp if hasattr(stamp, "dtype") else stamp
        return fixed

    def __jax_array__(self) -> jax.Array:
        return self.content.array

    def __array__(self, *arguments: Any, **options: Any) -> np.ndarray:
        return np.asarray(self.content.array).__array__(*arguments, **options)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "content":
            raise AttributeError(name)
        return getattr(self.content.array, name)

    def __getitem__(self, index: Any) -> jax.Array:
        return self.content.array[index]

    def __invert__(self) -> jax.Array:
        return ~self.content.array

    def __and__(self, other: Any) -> jax.Array:
        return self.content.array & jnp.asarray(other)

    def __eq__(self, other: object) -> Any:
        return self.content.array == jnp.asarray(other)

    __hash__ = None  # type: ignore[assignment]


def fix(weight: Weight) -> Weight:
    """Return a pruned weight whose values are its only arrays that are leaves.

    Args:
        weight: `Masked`, `Packed` or `Grouped`, with arrays that are known (not traced).
    """

    def fixed(leaf: Any) -> Any:
        is_value = not isinstance(leaf, Fixed) and jnp.issubdtype(leaf.dtype, jnp.inexact)
        return leaf if is_value else Fixed(leaf)

    return jax.tree.map(fixed, weight, is_leaf=lambda node: isinstance(node, Fixed))


def is_fixed(weight: Any) -> bool:
    """Return True for a pruned weight whose values are its only arrays that are leaves."""
    leaves = jax.tree.leaves(weight, is_leaf=lambda node: isinstance(node, Fixed))
    return any(isinstance(leaf, Fixed) for leaf in leaves)


def unfixed(array: Any) -> Any:
    """Return the array that a field holds, fixed or not."""
    return array.content.array if isinstance(array, Fixed) else array
