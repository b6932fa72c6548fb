"""Trees of several runs laid side by side, so that one program works on all, and taken apart again.

A dense weight beside a masked one of the same shape becomes a masked one that keeps everything: the
same function with the same gradient, and the same structure.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from operator import itemgetter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kanbatsu.sparsity.weight import Masked


def shape_of(tree: Any) -> Hashable:
    """Say what two trees must have in common to be laid side by side: all but which weights exist.

    Example:
        >>> weight = jnp.ones(2)
        >>> pruned = Masked.of(weight, jnp.array([True, False]))
        >>> shape_of({"w": weight}) == shape_of({"w": pruned}), shape_of(weight) == shape_of(1.0)
        (True, False)
    """
    dense = jax.tree.map(_value, tree, is_leaf=_is_masked)
    leaves, structure = jax.tree.flatten(dense)
    kinds = (getattr(leaf, "dtype", type(leaf)) for leaf in leaves)
    return structure, tuple(zip(map(jnp.shape, leaves), kinds, strict=True))


def lift(function: Callable[..., Any], members: int, axes: Any = 0) -> Callable[..., Any]:
    """Return a function for all members at once; of one alone, the function itself.

    Args:
        function: of one member.
        members: how many there are.
        axes: as `in_axes` of `jax.vmap`.
    """
    return function if members == 1 else jax.vmap(function, in_axes=axes)


class SideBySide:
    """Trees of several members along a new first axis; the tree itself where there is one.

    A program of one member alone so is the plain one, without an axis for members.

    Args:
        trees: equal in `shape_of`.

    Raises:
        ValueError: The trees differ in structure, shapes or types.

    Example:
        >>> dense, mask = jnp.ones(2), jnp.array([True, False])
        >>> both = SideBySide([{"w": dense}, {"w": Masked.of(dense, mask)}])
        >>> both.tree["w"].mask.tolist()
        [[True, True], [True, False]]
        >>> both.apart()[0]
        {'w': Array([1., 1.], dtype=float32)}
    """

    def __init__(self, trees: Sequence[Any]) -> None:
        if len({shape_of(tree) for tree in trees}) != 1:
            raise ValueError("only trees of the same structure, shapes and types go side by side")
        self._alone = len(trees) == 1
        if self._alone:
            self.tree = trees[0]
            return
        flat = [jax.tree.flatten(tree, is_leaf=_is_masked) for tree in trees]
        columns = list(zip(*(nodes for nodes, _ in flat), strict=True))
        alike = list(zip(*map(_alike, columns), strict=True))
        structure = flat[0][1]
        self.tree = jax.tree.map(
            lambda *leaves: jnp.stack(leaves), *(jax.tree.unflatten(structure, n) for n in alike)
        )
        self._wrapped = tuple(
            tuple(
                not _is_masked(old) and _is_masked(new) for old, new in zip(nodes, own, strict=True)
            )
            for (nodes, _), own in zip(flat, alike, strict=True)
        )

    def apart(self) -> list[Any]:
        """Return each member's own tree as it is now: what was dense is dense again."""
        return [self.tree] if self._alone else _apart(self._wrapped, self.tree)

    def join(self, values: Sequence[Any]) -> Any:
        """Return one array per member as an argument of a lifted function."""
        return values[0] if self._alone else jnp.stack(values)

    def stack(self, values: Sequence[np.ndarray]) -> np.ndarray:
        """Return one array per member as an argument of a lifted function, on the host."""
        return values[0] if self._alone else np.stack(values)

    def take(self, values: np.ndarray) -> Any:
        """Return `[members, ...]` as an argument of a lifted function."""
        return values[0] if self._alone else values

    def give(self, result: Any) -> Any:
        """Return a lifted function's result as `[members, ...]`."""
        return result[None] if self._alone else result


@partial(jax.jit, static_argnums=0)
def _apart(wrapped: tuple[tuple[bool, ...], ...], together: Any) -> list[Any]:
    nodes, structure = jax.tree.flatten(together, is_leaf=_is_masked)
    return [
        jax.tree.unflatten(
            structure,
            [
                jax.tree.map(itemgetter(member), _value(node) if dense else node)
                for node, dense in zip(nodes, own, strict=True)
            ],
        )
        for member, own in enumerate(wrapped)
    ]


def _alike(column: Sequence[Any]) -> list[Any]:
    """Wrap what is dense in one tree and masked in another."""
    example = next((node for node in column if _is_masked(node)), None)
    if example is None:
        return list(column)
    return [node if _is_masked(node) else _keeping_all(node, example) for node in column]


def _keeping_all(value: jax.Array, example: Masked) -> Masked:
    leaves, structure = jax.tree.flatten(example)  # the moments of a masked weight have no mask
    return jax.tree.unflatten(structure, [value, jnp.ones(value.shape, bool)][: len(leaves)])


def _is_masked(node: Any) -> bool:
    return isinstance(node, Masked)


def _value(node: Any) -> Any:
    return node.value if isinstance(node, Masked) else node
