"""What a model keeps, layer by layer."""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from kanbatsu.sparsity.kept_name import KeptName
from kanbatsu.sparsity.kernel import Kernel
from kanbatsu.sparsity.roles import find_kernels
from kanbatsu.sparsity.weight import is_pruned
from kanbatsu.tree import PyTree, leaves_by_path

NOTHING_TO_COUNT = "there is nothing to count: no layer has a prunable kernel"


@dataclass(frozen=True)
class LayerCount:
    """Weights that one kernel keeps."""

    path: str
    shape: tuple[int, ...]
    kept: int
    total: int


@dataclass(frozen=True)
class Count:
    """Weights that every kernel of a model keeps; prints as a table."""

    layers: tuple[LayerCount, ...]

    @property
    def kept(self) -> int:
        """Kernel weights that exist."""
        return sum(layer.kept for layer in self.layers)

    @property
    def total(self) -> int:
        """Kernel weights of the same model without pruning."""
        return sum(layer.total for layer in self.layers)

    @property
    def sparsity(self) -> float:
        """Share of the kernels' weights that is gone."""
        return 1.0 - self.kept / self.total

    def __str__(self) -> str:
        rows = [
            *((row.path, str(row.shape), row.kept, row.total) for row in self.layers),
            ("all", "", self.kept, self.total),
        ]
        name, shape = (max(len(str(row[i])) for row in rows) for i in (0, 1))
        lines = [f"{'layer':{name}}  {'shape':{shape}}  {'kept':>11}  {'total':>11}  sparsity"]
        lines += [
            f"{path:{name}}  {dims:{shape}}  {kept:>11,}  {total:>11,}  {1 - kept / total:8.4f}"
            for path, dims, kept, total in rows
        ]
        return "\n".join(lines)


def count(model: PyTree, masks: PyTree | None = None) -> Count:
    """Count kept and total weights of every kernel.

    Args:
        model: a pruned or dense model, or the parameters of another library.
        masks: for such parameters, what `make_masks` returned.

    Returns:
        A table; `print` it, or read `kept`, `total`, `sparsity` and `layers`. Shapes are
        `(*window, inputs, outputs)`, with the members of an ensemble first.

    Raises:
        ValueError: if there is no kernel in the model.

    Example:
        >>> import equinox as eqx
        >>> print(count(eqx.nn.Linear(3, 2, key=jax.random.key(0))))
        layer   shape          kept        total  sparsity
        weight  (3, 2)            6            6    0.0000
        all                       6            6    0.0000
    """
    kernels = find_kernels(model)
    leaves = leaves_by_path(model, is_leaf=is_pruned)
    mask_of = {} if masks is None else leaves_by_path(masks)
    kernels |= {
        path: Kernel((path,), mask.shape) for path, mask in mask_of.items() if path not in kernels
    }
    names = {path: KeptName.read(path.rpartition("/")[2]) for path in leaves}
    stored = {path: name for path, name in names.items() if name is not None}
    kernels |= {path: Kernel((path,), name.shape) for path, name in stored.items()}
    if not kernels:
        raise ValueError(NOTHING_TO_COUNT)

    def kept(path: str) -> int:
        if path in stored:
            return stored[path].kept(leaves[path].shape)
        if path in leaves and is_pruned(leaves[path]):
            return leaves[path].kept
        return int(np.asarray(mask_of[path]).sum()) if path in mask_of else kernels[path].size

    return Count(tuple(kernel_count(kernel, kept(path)) for path, kernel in kernels.items()))


def kernel_count(kernel: Kernel, kept: int) -> LayerCount:
    """Return the row of a kernel that keeps so many weights."""
    return LayerCount(kernel.path, (*kernel.members, *kernel.shape), kept, kernel.size)


def parameters(model: PyTree) -> int:
    """Count every trainable number of a model as if it were dense: kernels, biases, gains.

    Example:
        >>> import equinox as eqx
        >>> parameters(eqx.nn.Linear(3, 2, key=jax.random.key(0)))
        8
    """
    leaves = (leaf for leaf in jax.tree.leaves(model, is_leaf=is_pruned) if hasattr(leaf, "dtype"))
    inexact = (leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.inexact))
    return sum(math.prod(leaf.shape) for leaf in inexact)
