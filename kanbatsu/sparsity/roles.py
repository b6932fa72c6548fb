"""Which leaves of a tree are kernels: found by their role in a layer, never by rank.

A leaf is a kernel if it is the weight of an Equinox linear or convolution layer, the field that a
module class names in `kernel`, or, in a tree of mappings, the entry that Flax calls `kernel` and
Haiku calls `w`. Anything else is pruned only where the caller names it.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax.tree_util import DictKey, FlattenedIndexKey, GetAttrKey, KeyPath, SequenceKey

from kanbatsu.sparsity.allocate import Shape
from kanbatsu.sparsity.weight import is_pruned

PyTree = Any
MAPPING_KERNELS = ("kernel", "w")


@dataclass(frozen=True)
class Kernel:
    """One prunable weight in a tree."""

    path: str
    """Where it is, such as `encoder/blocks/0/up/weight`."""
    leaf: Any
    """The array, or the pruned weight that already replaces it."""
    outputs_first: bool
    """True for the layout `[outputs, inputs, *window]`, else `[*window, inputs, outputs]`."""

    @property
    def shape(self) -> Shape:
        """The shape as allocation and patterns count it: `(*window, inputs, outputs)`."""
        outputs, inputs, *window = self.leaf.shape
        return (*window, inputs, outputs) if self.outputs_first else tuple(self.leaf.shape)

    def to_layout(self, mask: np.ndarray) -> np.ndarray:
        """Bring a mask of that shape to the layout in which the leaf is stored."""
        if not self.outputs_first:
            return mask
        return mask.transpose((mask.ndim - 1, mask.ndim - 2, *range(mask.ndim - 2)))


def find_kernels(
    tree: PyTree, include: str | Sequence[str] = (), exclude: str | Sequence[str] = ()
) -> dict[str, Kernel]:
    """Find the prunable weights of a tree, in the order in which JAX flattens it.

    Args:
        tree: an Equinox model, Flax or Haiku parameters, or any pytree.
        include: path patterns (`*` and `?`). Where given, only kernels that match one are
            prunable; arrays of at least two axes that match count as kernels whatever they are
            called, stored as `[*window, inputs, outputs]`.
        exclude: path patterns of kernels to leave dense.

    Raises:
        ValueError: if a pattern matches nothing (the message lists the paths).

    Example:
        >>> import jax.numpy as jnp
        >>> params = {"dense": {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)}}
        >>> list(find_kernels(params))
        ['dense/kernel']
    """
    includes = (include,) if isinstance(include, str) else tuple(include)
    excludes = (exclude,) if isinstance(exclude, str) else tuple(exclude)
    roles = _roles(tree)
    candidates: dict[str, Kernel] = {}
    for keys, leaf in jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_pruned):
        path = path_name(keys)
        named = any(fnmatch.fnmatchcase(path, pattern) for pattern in includes)
        shaped = getattr(leaf, "ndim", 0) >= 2 and hasattr(leaf, "dtype")
        if shaped and (path in roles or named):
            candidates[path] = Kernel(path, leaf, outputs_first=roles.get(path, False))
    for pattern in (*includes, *excludes):
        if not any(fnmatch.fnmatchcase(path, pattern) for path in candidates):
            raise ValueError(
                f"the pattern {pattern!r} matches no prunable weight; the paths are: "
                f"{', '.join(candidates) or '(none)'}"
            )
    return {
        path: kernel
        for path, kernel in candidates.items()
        if (not includes or any(fnmatch.fnmatchcase(path, pattern) for pattern in includes))
        and not any(fnmatch.fnmatchcase(path, pattern) for pattern in excludes)
    }


def path_name(keys: KeyPath) -> str:
    """Write a JAX key path as names with slashes.

    Example:
        >>> path_name((GetAttrKey("blocks"), SequenceKey(0), DictKey("kernel")))
        'blocks/0/kernel'
    """
    return "/".join(_key_name(key) for key in keys)


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


def _roles(tree: PyTree) -> dict[str, bool]:
    """Paths of the kernels that their layer or library declares, and whether outputs come first."""
    roles: dict[str, bool] = {}
    for keys, node in jax.tree_util.tree_leaves_with_path(tree, is_leaf=_is_layer):
        if isinstance(node, eqx.nn.Linear | eqx.nn.Conv | eqx.nn.ConvTranspose):
            roles[path_name((*keys, GetAttrKey("weight")))] = True
        elif _is_layer(node):
            roles[path_name((*keys, GetAttrKey(type(node).kernel)))] = False
        elif keys and isinstance(keys[-1], DictKey) and keys[-1].key in MAPPING_KERNELS:
            roles[path_name(keys)] = False
    return roles


def _is_layer(node: Any) -> bool:
    if isinstance(node, eqx.nn.Linear | eqx.nn.Conv | eqx.nn.ConvTranspose):
        return True
    return isinstance(node, eqx.Module) and isinstance(getattr(type(node), "kernel", None), str)
