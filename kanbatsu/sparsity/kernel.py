"""A kernel: one weight that may be pruned, by name and shape, whichever framework stores it."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from kanbatsu.sparsity.allocate import Shape

Paths = str | Sequence[str]
"""Globs (`*` and `?`) that name kernels, or the layers that they are the kernels of."""


@dataclass(frozen=True)
class Kernel:
    """One prunable weight."""

    paths: tuple[str, ...]
    """Its names, such as `encoder/blocks/0/up/weight`; several where layers share it."""
    stored: Shape
    """The shape of the array that holds it."""
    outputs_first: bool = False
    """True for the layout `[outputs, inputs, *window]`, else `[*window, inputs, outputs]`."""
    leading: int | None = 0
    """Number of leading axes that count members of an ensemble; None where nothing tells."""
    features: int = 1
    """Number of trailing axes that are outputs: two for an attention's query, `[inputs, heads,
    size]`."""
    transposed_groups: int = 0
    """Groups of a transposed convolution, `[inputs, outputs / groups, *window]`; 0 for others."""
    separator: str = "/"
    """Separator between the names in a path."""

    @property
    def path(self) -> str:
        """The first of its names, under which it is counted."""
        return self.paths[0]

    @property
    def members(self) -> Shape:
        """Sizes of the leading axes: `(2,)` for a pair of critics, `()` for a layer alone."""
        return self.stored[: self.leading or 0]

    @property
    def shape(self) -> Shape:
        """The shape of one member, as allocation and patterns count it: `(*window, in, out)`."""
        shape = self.stored[self.leading or 0 :]
        if groups := self.transposed_groups:
            inputs, outputs, *window = shape
            return (*window, inputs // groups, groups * outputs)
        if self.outputs_first:
            outputs, inputs, *window = shape
            return (*window, inputs, outputs)
        return (*shape[: -self.features], math.prod(shape[-self.features :]))

    @property
    def size(self) -> int:
        """Number of weights without pruning, of all members."""
        return math.prod(self.stored)

    def matches(self, paths: Paths | None) -> bool:
        """Return whether a glob names this kernel, or the layer that it is the kernel of."""
        names = {name for path in self.paths for name in (path, path.rpartition(self.separator)[0])}
        return any(fnmatch.fnmatchcase(name, glob) for name in names for glob in globs(paths))

    def to_layout(self, mask: np.ndarray) -> np.ndarray:
        """Bring a mask `[*members, *shape]` to the layout in which the weight is stored."""
        if self.transposed_groups:
            split = mask.reshape(*mask.shape[:-1], self.transposed_groups, -1)
            mask = np.moveaxis(split, (-2, -3, -1), (0, 1, 2))
        elif self.outputs_first:
            first = len(self.members)
            mask = np.moveaxis(mask, (-1, -2), (first, first + 1))
        return mask.reshape(self.stored)


def globs(paths: Paths | None) -> tuple[str, ...]:
    """Return globs as a tuple, however they were given.

    Example:
        >>> globs("actor/*"), globs(None)
        (('actor/*',), ())
    """
    return (paths,) if isinstance(paths, str) else tuple(paths or ())


def check_globs(
    paths: Paths | None, kernels: Collection[Kernel], others: Iterable[str] = ()
) -> None:
    """Refuse globs that name none of the kernels.

    Args:
        paths: the globs.
        kernels: what they may name.
        others: paths to list in the message where there is no kernel.

    Raises:
        ValueError: if there is one; the message lists the paths.
    """
    for glob in globs(paths):
        if not any(kernel.matches(glob) for kernel in kernels):
            known = [path for kernel in kernels for path in kernel.paths] or list(others)
            raise ValueError(
                f"the glob {glob!r} matches no prunable weight; the paths are: "
                f"{', '.join(known) or '(none)'}"
            )


def choose(kernels: Iterable[Kernel], include: Paths | None, exclude: Paths | None) -> list[Kernel]:
    """Return the kernels that are included (all, where nothing is) and not excluded.

    Example:
        >>> kernels = [Kernel((path,), (2, 2)) for path in ("a/w", "b/w")]
        >>> [kernel.path for kernel in choose(kernels, include=(), exclude="a")]
        ['b/w']
    """
    return [
        kernel
        for kernel in kernels
        if (not globs(include) or kernel.matches(include)) and not kernel.matches(exclude)
    ]
