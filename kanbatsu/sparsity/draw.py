"""Masks for the kernels of a tree: how many weights each keeps and which ones, by path."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np

from kanbatsu.sparsity.allocate import Shape, allocate, check_sparsity
from kanbatsu.sparsity.count import parameters
from kanbatsu.sparsity.pattern import draw_each, granule
from kanbatsu.sparsity.roles import (
    Kernel,
    Paths,
    PyTree,
    check_members,
    find_kernels,
    leaves_by_path,
)
from kanbatsu.sparsity.weight import is_pruned
from kanbatsu.types import Key

Sparsity = float | Mapping[str, float]
"""One share for all kernels, or one for those that each path pattern names."""


def find_meant(
    tree: PyTree, sparsity: Sparsity, include: Paths, exclude: Paths, ensemble: Paths | None
) -> dict[str, Kernel]:
    """Find the kernels that are to be pruned, in the order in which JAX flattens the tree.

    Raises:
        ValueError: as for `find_kernels`; if there is none; if the tree is already pruned; or if
            nothing tells whether a kernel holds an ensemble.
    """
    named = tuple(sparsity) if isinstance(sparsity, Mapping) else ()
    kernels = find_kernels(tree, include or named, exclude, ensemble)
    for pattern in named:
        if not any(kernel.matches(pattern) for kernel in kernels.values()):
            raise ValueError(
                f"the sparsity of {pattern!r} is for no kernel that is to be pruned; these are: "
                f"{', '.join(kernels) or '(none)'}"
            )
    if named:
        kernels = {path: kernel for path, kernel in kernels.items() if kernel.matches(named)}
    if not kernels:
        raise ValueError(
            "there is nothing to prune: no layer has a prunable kernel. Name other arrays with "
            "include, and give an nnx model as nnx.state(model, nnx.Param)"
        )
    if any(is_pruned(kernel.leaf) for kernel in kernels.values()):
        raise ValueError(
            "this model is already pruned; prune a fresh one (see kanbatsu.count for what it keeps)"
        )
    check_members(kernels.values())
    return kernels


def kept_by_path(
    tree: PyTree,
    kernels: Mapping[str, Kernel],
    sparsity: Sparsity,
    distribution: str,
    pattern: str,
    budget: str,
) -> dict[str, int]:
    """How many weights each kernel keeps, by path; of an ensemble's kernel, each member.

    The members of an ensemble share out the sparsity as each of them would alone. Kernels beside
    an ensemble, such as a trunk that its members have in common, share out theirs apart.
    """
    if budget not in ("kernels", "all"):
        raise ValueError(f"unknown budget {budget!r}: choose 'kernels' or 'all'")
    if budget == "all" and isinstance(sparsity, Mapping):
        raise ValueError("budget='all' shares out one sparsity over everything: give one number")
    prunable = sum(math.prod(kernel.leaf.shape) for kernel in kernels.values())
    scale = parameters(tree) / prunable if budget == "all" else 1.0
    kept: dict[str, int] = {}
    for share, named in _by_sparsity(kernels, sparsity):
        check_sparsity(share)
        for group in _by_members(named).values():
            shapes = [kernel.shape for kernel in group]
            granules = [granule(shape, pattern) for shape in shapes]
            counts = allocate(shapes, scale * share, distribution, granules)
            kept |= zip((kernel.path for kernel in group), counts, strict=True)
    return kept


def draw_masks(
    kernels: Mapping[str, Kernel],
    kept: Mapping[str, int],
    key: Key,
    pattern: str,
    group_size: int,
) -> dict[str, np.ndarray]:
    """Draw one mask per kernel, by path, in the layout of its leaf.

    Each kernel gets a key of its own, split from the one that is given in the order of the
    kernels. For an ensemble the key is split among the members first, so that each of them gets
    the masks that it would get alone.
    """
    groups = _by_members(kernels.values())
    keys = [key] if len(groups) == 1 else jax.random.split(key, len(groups))
    masks = {}
    for (members, group), group_key in zip(groups.items(), keys, strict=True):
        alone = [group_key] if not members else jax.random.split(group_key, math.prod(members))
        shapes = [kernel.shape for kernel in group]
        counts = [kept[kernel.path] for kernel in group]
        drawn = [draw_each(each, shapes, counts, pattern, group_size) for each in alone]
        for kernel, of_members in zip(group, zip(*drawn, strict=True), strict=True):
            stacked = np.stack(of_members).reshape(*members, *kernel.shape)
            masks[kernel.path] = kernel.to_layout(stacked)
    return masks


def fit_masks(masks: PyTree, tree: PyTree) -> dict[str, Any]:
    """Return the mask of every leaf by path (or None), if the masks are those of the tree.

    Containers may differ (a `FrozenDict` and a dict, `nnx.Param` and the array in it); paths and
    shapes may not.

    Raises:
        ValueError: if they are not; the message says where they differ.
    """

    def is_none(node: Any) -> bool:
        return node is None

    mask_at, leaf_at = leaves_by_path(masks, is_none), leaves_by_path(tree, is_none)
    if mask_at.keys() != leaf_at.keys():
        strange = [path for path in mask_at if path not in leaf_at]
        unknown = [path for path in leaf_at if path not in mask_at]
        raise ValueError(
            "these masks were made for another tree: only the masks have "
            f"{', '.join(strange) or 'nothing'}, and only the tree has "
            f"{', '.join(unknown) or 'nothing'}. Make them with make_masks from the whole tree "
            "that the optimizer trains, and let keep_pruned be the outermost wrapper"
        )
    for path, mask in mask_at.items():
        if mask is not None and mask.shape != getattr(leaf_at[path], "shape", None):
            raise ValueError(
                f"{path}: a mask of shape {mask.shape} does not fit weights of "
                f"{getattr(leaf_at[path], 'shape', leaf_at[path])}"
            )
    return mask_at


def _by_members(kernels: Iterable[Kernel]) -> dict[Shape, list[Kernel]]:
    groups: dict[Shape, list[Kernel]] = {}
    for kernel in kernels:
        groups.setdefault(kernel.members, []).append(kernel)
    return groups


def _by_sparsity(
    kernels: Mapping[str, Kernel], sparsity: Sparsity
) -> list[tuple[float, list[Kernel]]]:
    """Which kernels share out which sparsity."""
    if not isinstance(sparsity, Mapping):
        return [(sparsity, list(kernels.values()))]
    named = [
        (share, [kernel for kernel in kernels.values() if kernel.matches(pattern)])
        for pattern, share in sparsity.items()
    ]
    for path, kernel in kernels.items():
        by = [pattern for pattern in sparsity if kernel.matches(pattern)]
        if len(by) > 1:
            raise ValueError(f"{path} is given several sparsities, by {', '.join(map(repr, by))}")
    return named
