"""How many weights a model's products really touch: what pruning saves, and what it only could."""

from __future__ import annotations

import math
from typing import Any

from kanbatsu.sparsity.packed import Grouped, Packed
from kanbatsu.sparsity.roles import find_kernels
from kanbatsu.sparsity.weight import is_pruned
from kanbatsu.tree import PyTree, leaves_by_path


def multiplied(model: PyTree) -> dict[str, int]:
    """Count, kernel by kernel, the weights that one product with it multiplies.

    A dense kernel and a masked one multiply every weight, the zeros too; a packed one its kept
    values; a grouped one its kept values and the zeros that fill up its last group. For the kernel
    of a convolution this is of one position.

    Args:
        model: A pruned or dense model, with its weights drawn.

    Returns:
        Weights by the path of the kernel. One product of one sample is twice as many operations: a
        multiplication and an addition for each.

    Example:
        >>> import equinox as eqx, jax, kanbatsu
        >>> layer = eqx.nn.Linear(8, 4, key=jax.random.key(0))
        >>> for compute in ("masked", "packed"):
        ...     thin = kanbatsu.prune(layer, 0.75, key=jax.random.key(1), compute=compute)
        ...     print(multiplied(thin))
        {'weight': 32}
        {'weight': 8}
    """
    leaves = leaves_by_path(model, is_leaf=is_pruned)
    return {path: _multiplied(leaves[path]) for path in find_kernels(model)}


def _multiplied(leaf: Any) -> int:
    return math.prod(leaf.values.shape if isinstance(leaf, Packed | Grouped) else leaf.shape)
