"""Names of the leaves of a tree: one way to say which weight is meant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax.tree_util import DictKey, FlattenedIndexKey, GetAttrKey, KeyPath, SequenceKey

PyTree = Any


def leaves_by_path(tree: PyTree, is_leaf: Callable[[Any], bool] | None = None) -> dict[str, Any]:
    """Return the leaves of a tree by the names of their paths, in flatten order.

    Raises:
        ValueError: if two leaves have the same name.

    Example:
        >>> leaves_by_path({"dense": [1.0, 2.0]})
        {'dense/0': 1.0, 'dense/1': 2.0}
    """
    leaves: dict[str, Any] = {}
    for keys, leaf in jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_leaf):
        path = path_name(keys)
        if path in leaves:
            raise ValueError(f"two leaves of this tree are called {path!r}: rename one of them")
        leaves[path] = leaf
    return leaves


def path_name(keys: KeyPath) -> str:
    """Write a JAX key path as names with slashes.

    Example:
        >>> path_name((GetAttrKey("blocks"), SequenceKey(0), DictKey("kernel")))
        'blocks/0/kernel'
    """
    return "/".join(_key_name(key) for key in unboxed(keys))


def unboxed(keys: KeyPath) -> KeyPath:
    """Leave out the box that Flax puts around an array in a mapping (`nnx.Param`, for one)."""
    if len(keys) > 1 and keys[-1] == GetAttrKey("value") and isinstance(keys[-2], DictKey):
        return keys[:-1]
    return keys


def _key_name(key: Any) -> str:
    match key:
        case GetAttrKey(name=name):
            return name
        case DictKey(key=name) | FlattenedIndexKey(key=name):
            return str(name)
        case SequenceKey(idx=index):
            return str(index)
        case _:
            return str(key)
