"""Which leaves of a tree are kernels, and how their axes read: by role in a layer, never by rank.

A leaf is a kernel if it is the weight of an Equinox linear or convolution layer, the field that a
module class names in `kernel`, or, in a tree of mappings, the entry that Flax calls `kernel` and
Haiku calls `w`. Anything else is pruned only where the caller names it.

Leading axes of a kernel may count the members of an ensemble, as `vmap` stacks them. What tells is
the type of an Equinox layer, or the bias beside the kernel: one of shape `[members, outputs]` does
belong to an ensemble and one of shape `[outputs]` does not, whatever the kernel's rank.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax.tree_util import DictKey, FlattenedIndexKey, GetAttrKey, KeyPath, SequenceKey

from kanbatsu.sparsity.allocate import Shape
from kanbatsu.sparsity.weight import is_pruned

PyTree = Any
Paths = str | Sequence[str]
MAPPING_KERNELS = ("kernel", "w")
BIASES = ("bias", "b")


@dataclass(frozen=True)
class Kernel:
    """One prunable weight in a tree."""

    path: str
    """Where it is, such as `encoder/blocks/0/up/weight`."""
    leaf: Any
    """The array, or the pruned weight that already replaces it."""
    outputs_first: bool
    """True for the layout `[outputs, inputs, *window]`, else `[*window, inputs, outputs]`."""
    leading: int | None = 0
    """How many leading axes count members of an ensemble; None where nothing tells."""
    features: int = 1
    """How many trailing axes are outputs: two for an attention's query, `[inputs, heads, size]`."""

    @property
    def members(self) -> Shape:
        """Sizes of the leading axes: `(2,)` for a pair of critics, `()` for a layer alone."""
        return tuple(self.leaf.shape[: self.leading or 0])

    @property
    def shape(self) -> Shape:
        """The shape of one member, as allocation and patterns count it: `(*window, in, out)`."""
        shape = tuple(self.leaf.shape[self.leading or 0 :])
        if self.outputs_first:
            outputs, inputs, *window = shape
            return (*window, inputs, outputs)
        return (*shape[: -self.features], math.prod(shape[-self.features :]))

    def matches(self, paths: Paths | None) -> bool:
        """Whether a pattern names this kernel, or the layer that it is the kernel of."""
        names = (self.path, self.path.rpartition("/")[0])
        return any(fnmatch.fnmatchcase(name, each) for name in names for each in patterns(paths))

    def to_layout(self, mask: np.ndarray) -> np.ndarray:
        """Bring a mask `[*members, *shape]` to the layout in which the leaf is stored."""
        if self.outputs_first:
            first = len(self.members)
            mask = np.moveaxis(mask, (-1, -2), (first, first + 1))
        return mask.reshape(self.leaf.shape)


def find_kernels(
    tree: PyTree, include: Paths = (), exclude: Paths = (), ensemble: Paths | None = None
) -> dict[str, Kernel]:
    """Find the prunable weights of a tree, in the order in which JAX flattens it.

    Args:
        tree: an Equinox model, Flax or Haiku parameters, or any pytree.
        include: path patterns (`*` and `?`) of kernels or of their layers. Where given, only
            kernels that match one are prunable. A pattern that matches no kernel takes the arrays
            of at least two axes that it does match, stored as `[*window, inputs, outputs]`.
        exclude: path patterns of kernels to leave dense.
        ensemble: path patterns of the kernels whose first axis counts members; `()` if there is
            none. By default the layer's type or its bias tells.

    Raises:
        ValueError: if a pattern matches nothing (the message lists the paths), or `ensemble`
            names a kernel of two axes.

    Example:
        >>> import jax.numpy as jnp
        >>> layer = {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)}
        >>> list(find_kernels({"dense": layer}))
        ['dense/kernel']
        >>> pair = {"kernel": jnp.ones((5, 3, 2)), "bias": jnp.ones((5, 2))}
        >>> find_kernels(pair)["kernel"].members, find_kernels(pair)["kernel"].shape
        ((5,), (3, 2))
    """
    roles = _roles(tree)
    leaves = leaves_by_path(tree, is_leaf=is_pruned)
    matrices = [path for path, leaf in leaves.items() if _is_matrix(leaf)]
    kernels = {
        path: _kernel(path, leaves, roles[path], ensemble) for path in matrices if path in roles
    }
    others = [pattern for pattern in patterns(include) if not _any_match(kernels, pattern)]
    candidates = {
        path: kernels.get(path) or _kernel(path, leaves, None, ensemble)
        for path in matrices
        if path in kernels or any(fnmatch.fnmatchcase(path, pattern) for pattern in others)
    }
    for pattern in (*patterns(include), *patterns(exclude), *patterns(ensemble)):
        if not _any_match(candidates, pattern):
            raise ValueError(
                f"the pattern {pattern!r} matches no prunable weight; the paths are: "
                f"{', '.join(candidates or matrices) or '(none)'}"
            )
    flat = [path for path, each in candidates.items() if each.leading == len(each.leaf.shape) - 1]
    if flat:
        raise ValueError(
            f"ensemble={ensemble!r} names kernels that have no axis for members, only inputs and "
            f"outputs: {', '.join(flat)}. Name only kernels with one more axis in front"
        )
    return {
        path: kernel
        for path, kernel in candidates.items()
        if (not patterns(include) or kernel.matches(include)) and not kernel.matches(exclude)
    }


def check_members(kernels: Iterable[Kernel]) -> None:
    """Refuse kernels of which nothing tells whether their first axis counts members.

    Raises:
        ValueError: if there is one; the message says how to tell.
    """
    unclear = [f"{each.path} {tuple(each.leaf.shape)}" for each in kernels if each.leading is None]
    if unclear:
        raise ValueError(
            "cannot tell whether the first axis of these kernels counts members of an ensemble, "
            f"because they have no bias, or one that fits both readings: {', '.join(unclear)}. "
            "Pass ensemble= with path patterns of the kernels that have such an axis, or "
            "ensemble=() if none has"
        )


def patterns(paths: Paths | None) -> tuple[str, ...]:
    """Return path patterns as a tuple, however they were given.

    Example:
        >>> patterns("actor/*"), patterns(None)
        (('actor/*',), ())
    """
    return (paths,) if isinstance(paths, str) else tuple(paths or ())


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
    return "/".join(_key_name(key) for key in _unboxed(keys))


def _unboxed(keys: KeyPath) -> KeyPath:
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


def _is_matrix(leaf: Any) -> bool:
    return getattr(leaf, "ndim", 0) >= 2 and hasattr(leaf, "dtype")


def _any_match(kernels: Mapping[str, Kernel], pattern: str) -> bool:
    return any(kernel.matches(pattern) for kernel in kernels.values())


def _roles(tree: PyTree) -> dict[str, int | None]:
    """Paths of the kernels that their layer or library declares.

    With each, the axes of one layer's kernel where the type fixes them: Equinox's, which put
    outputs first.
    """
    roles: dict[str, int | None] = {}
    for keys, node in jax.tree_util.tree_leaves_with_path(tree, is_leaf=_is_layer):
        keys = _unboxed(keys)
        if isinstance(node, eqx.nn.Linear):
            roles[path_name((*keys, GetAttrKey("weight")))] = 2
        elif isinstance(node, eqx.nn.Conv | eqx.nn.ConvTranspose):
            roles[path_name((*keys, GetAttrKey("weight")))] = 2 + node.num_spatial_dims
        elif _is_layer(node):
            roles[path_name((*keys, GetAttrKey(type(node).kernel)))] = None
        elif keys and isinstance(keys[-1], DictKey) and keys[-1].key in MAPPING_KERNELS:
            roles[path_name(keys)] = None
    return roles


def _is_layer(node: Any) -> bool:
    if isinstance(node, eqx.nn.Linear | eqx.nn.Conv | eqx.nn.ConvTranspose):
        return True
    return isinstance(node, eqx.Module) and isinstance(getattr(type(node), "kernel", None), str)


def _kernel(
    path: str, leaves: Mapping[str, Any], axes: int | None, ensemble: Paths | None
) -> Kernel:
    """Say how the axes of a kernel read."""
    leaf = leaves[path]
    if axes is not None:
        return Kernel(path, leaf, outputs_first=True, leading=max(leaf.ndim - axes, 0))
    readings = _readings(tuple(leaf.shape), _bias_shape(path, leaves))
    if ensemble is not None:
        named = Kernel(path, leaf, outputs_first=False).matches(ensemble)
        readings = [r for r in readings if bool(r[0]) == named] or [(int(named), 1)]
    leading, features = readings[0] if len(readings) == 1 else (None, 1)
    return Kernel(path, leaf, outputs_first=False, leading=leading, features=features)


def _readings(kernel: Shape, bias: Shape | None) -> list[tuple[int, int]]:
    """All numbers of leading axes of members and trailing axes of outputs that fit a bias."""
    if len(kernel) == 2:
        return [(0, 1)]
    if not bias or len(bias) >= len(kernel):
        return []
    if len(bias) == 1:  # of any length: a transposed convolution may store its inputs last
        return [(0, 1)]
    return [
        (leading, len(bias) - leading)
        for leading in range(len(bias))
        if bias[:leading] == kernel[:leading] and bias[leading:] == kernel[leading - len(bias) :]
    ]


def _bias_shape(path: str, leaves: Mapping[str, Any]) -> Shape | None:
    """The shape of the bias in the same layer."""
    layer = path.rpartition("/")[0]
    for name in BIASES:
        bias = leaves.get(f"{layer}/{name}" if layer else name)
        if bias is not None and hasattr(bias, "shape"):
            return tuple(bias.shape)
    return None
