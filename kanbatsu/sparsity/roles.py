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
from collections.abc import Iterable, Mapping
from typing import Any

import equinox as eqx
import jax
from jax.tree_util import DictKey, GetAttrKey

from kanbatsu.sparsity.allocate import Shape
from kanbatsu.sparsity.kernel import Kernel, Paths, check_globs, choose, globs
from kanbatsu.sparsity.weight import is_pruned
from kanbatsu.tree import PyTree, leaves_by_path, path_name, unboxed

MAPPING_KERNELS = ("kernel", "w")
BIASES = ("bias", "b")


def find_kernels(
    tree: PyTree,
    include: Paths | None = None,
    exclude: Paths | None = None,
    ensemble: Paths | None = None,
) -> dict[str, Kernel]:
    """Find the prunable weights of a tree, in the order in which JAX flattens it.

    Args:
        tree: an Equinox model, Flax or Haiku parameters, or any pytree.
        include: globs (`*` and `?`) of kernels or of their layers. Where given, only kernels that
            match one are prunable. A glob that matches no kernel takes the arrays of at least two
            axes that it does match, stored as `[*window, inputs, outputs]`.
        exclude: globs of kernels to leave dense.
        ensemble: globs of the kernels whose first axis counts members; `()` if there is
            none. By default the layer's type or its bias tells.

    Raises:
        ValueError: if a glob matches nothing (the message lists the paths), or `ensemble`
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
    others = [g for g in globs(include) if not any(each.matches(g) for each in kernels.values())]
    candidates = [
        kernels.get(path) or _kernel(path, leaves, None, ensemble)
        for path in matrices
        if path in kernels or any(fnmatch.fnmatchcase(path, glob) for glob in others)
    ]
    check_globs((*globs(include), *globs(exclude), *globs(ensemble)), candidates, matrices)
    flat = [each.path for each in candidates if each.leading == len(each.stored) - 1]
    if flat:
        raise ValueError(
            f"ensemble={ensemble!r} names kernels that have no axis for members, only inputs and "
            f"outputs: {', '.join(flat)}. Name only kernels with one more axis in front"
        )
    return {kernel.path: kernel for kernel in choose(candidates, include, exclude)}


def check_members(kernels: Iterable[Kernel]) -> None:
    """Refuse kernels of which nothing tells whether their first axis counts members.

    Raises:
        ValueError: if there is one; the message says how to tell.
    """
    unclear = [f"{each.path} {each.stored}" for each in kernels if each.leading is None]
    if unclear:
        raise ValueError(
            "cannot tell whether the first axis of these kernels counts members of an ensemble, "
            f"because they have no bias, or one that fits both readings: {', '.join(unclear)}. "
            "Pass ensemble= with globs of the kernels that have such an axis, or "
            "ensemble=() if none has"
        )


def _is_matrix(leaf: Any) -> bool:
    return getattr(leaf, "ndim", 0) >= 2 and hasattr(leaf, "dtype")


def _roles(tree: PyTree) -> dict[str, int | None]:
    """Paths of the kernels that their layer or library declares.

    With each, the axes of one layer's kernel where the type fixes them: Equinox's, which put
    outputs first.
    """
    roles: dict[str, int | None] = {}
    for keys, node in jax.tree_util.tree_leaves_with_path(tree, is_leaf=_is_layer):
        keys = unboxed(keys)
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
    stored = tuple(leaves[path].shape)
    if axes is not None:
        return Kernel((path,), stored, outputs_first=True, leading=max(len(stored) - axes, 0))
    readings = _readings(stored, _bias_shape(path, leaves))
    if ensemble is not None:
        named = Kernel((path,), stored).matches(ensemble)
        readings = [r for r in readings if bool(r[0]) == named] or [(int(named), 1)]
    leading, features = readings[0] if len(readings) == 1 else (None, 1)
    return Kernel((path,), stored, leading=leading, features=features)


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
