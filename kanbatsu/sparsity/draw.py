"""Masks for kernels: how many weights each keeps and which ones, the same on every framework."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kanbatsu.sparsity import keys
from kanbatsu.sparsity.allocate import Shape, allocate, check_sparsity
from kanbatsu.sparsity.config import Pruning
from kanbatsu.sparsity.kernel import Kernel, Paths
from kanbatsu.sparsity.keys import Key
from kanbatsu.sparsity.pattern import draw_each, granule

Sparsity = float | Mapping[str, float]
"""One share for all kernels, or one for those that each glob names."""


@dataclass(frozen=True)
class Scope:
    """The part of a model that is pruned."""

    include: Paths | None = None
    """Globs of the only kernels (or layers) to prune; all of them where there is none."""
    exclude: Paths | None = None
    """Globs of kernels (or layers) to leave dense."""
    ensemble: Paths | None = None
    """Globs of the kernels whose first axis counts members; None = the layer or its bias tells."""
    budget: str = "kernels"
    """Weights that the sparsity is a share of: the `kernels`, or `all` parameters."""
    shares: Mapping[str, float] | None = None
    """Sparsities of the kernels that each glob names, in place of one for all."""

    @property
    def included(self) -> Paths:
        """The globs of what is to be pruned."""
        return self.include or tuple(self.shares or ())


EVERYWHERE = Scope()


def split(sparsity: Sparsity) -> tuple[float, Mapping[str, float] | None]:
    """Return the share of all kernels (0 where each glob has its own), and the shares by glob.

    Example:
        >>> split(0.5), split({"actor": 0.8})
        ((0.5, None), (0.0, {'actor': 0.8}))
    """
    return (0.0, sparsity) if isinstance(sparsity, Mapping) else (sparsity, None)


def check_shares(kernels: Sequence[Kernel], shares: Mapping[str, float]) -> list[Kernel]:
    """Return the kernels that a glob gives a sparsity.

    Raises:
        ValueError: if no glob is given, one names no kernel, or several name the same.
    """
    if not shares:
        raise ValueError("the sparsity names no layer: give a share for at least one glob")
    for glob in shares:
        if not any(kernel.matches(glob) for kernel in kernels):
            raise ValueError(
                f"the sparsity of {glob!r} is for no kernel that is to be pruned; these are: "
                f"{', '.join(kernel.path for kernel in kernels) or '(none)'}"
            )
    for kernel in kernels:
        by = [glob for glob in shares if kernel.matches(glob)]
        if len(by) > 1:
            given = ", ".join(map(repr, by))
            raise ValueError(f"{kernel.path} is given several sparsities, by {given}")
    return [kernel for kernel in kernels if kernel.matches(tuple(shares))]


def kept_by_path(
    kernels: Sequence[Kernel],
    pruning: Pruning,
    shares: Mapping[str, float] | None = None,
    scale: float = 1.0,
) -> dict[str, int]:
    """Return how many weights each kernel keeps, by path; of an ensemble's kernel, each member.

    The members of an ensemble share out the sparsity as each of them would alone. Kernels beside
    an ensemble, such as a trunk that its members have in common, share out theirs apart.

    Args:
        kernels: what is pruned.
        pruning: the sparsity, its distribution, and the pattern, which sets the steps of counts.
        shares: sparsities by glob, in place of the one in `pruning`.
        scale: what the sparsity is multiplied by: all that it counts, divided by the kernels.

    Raises:
        ValueError: for a sparsity that cannot be met.
    """
    by_share = [(pruning.sparsity, list(kernels))]
    if shares is not None:
        by_share = [
            (share, [k for k in kernels if k.matches(glob)]) for glob, share in shares.items()
        ]
    kept: dict[str, int] = {}
    for share, named in by_share:
        check_sparsity(share)
        for group in _by_members(named).values():
            shapes = [kernel.shape for kernel in group]
            granules = [granule(shape, pruning.pattern) for shape in shapes]
            counts = allocate(shapes, scale * share, pruning.distribution, granules)
            kept |= zip((kernel.path for kernel in group), counts, strict=True)
    return kept


def draw_masks(
    kernels: Sequence[Kernel], kept: Mapping[str, int], pruning: Pruning, key: Key
) -> dict[str, np.ndarray]:
    """Draw one mask per kernel, by path, in the layout in which it is stored.

    Each kernel gets a key of its own, split from the one that is given in the order of the
    kernels. For an ensemble the key is split among the members first, so that each of them gets
    the masks that it would get alone.

    Raises:
        ValueError: if there is something to draw, and the key is not one or its value unknown.
    """
    if all(kept[kernel.path] == math.prod(kernel.shape) for kernel in kernels):  # no draw at all
        return {
            kernel.path: kernel.to_layout(np.ones((*kernel.members, *kernel.shape), bool))
            for kernel in kernels
        }
    with keys.drawn_now(key) as checked:
        return _draw_masks(kernels, kept, pruning, checked)


def _draw_masks(
    kernels: Sequence[Kernel], kept: Mapping[str, int], pruning: Pruning, key: Key
) -> dict[str, np.ndarray]:
    groups = _by_members(kernels)
    group_keys = [key] if len(groups) == 1 else keys.split(key, len(groups))
    masks = {}
    for (members, group), group_key in zip(groups.items(), group_keys, strict=True):
        alone = [group_key] if not members else keys.split(group_key, math.prod(members))
        shapes = [kernel.shape for kernel in group]
        counts = [kept[kernel.path] for kernel in group]
        drawn = [
            draw_each(each, shapes, counts, pruning.pattern, pruning.group_size) for each in alone
        ]
        for kernel, of_members in zip(group, zip(*drawn, strict=True), strict=True):
            stacked = np.stack(of_members).reshape(*members, *kernel.shape)
            masks[kernel.path] = kernel.to_layout(stacked)
    return masks


def _by_members(kernels: Iterable[Kernel]) -> dict[Shape, list[Kernel]]:
    groups: dict[Shape, list[Kernel]] = {}
    for kernel in kernels:
        groups.setdefault(kernel.members, []).append(kernel)
    return groups
