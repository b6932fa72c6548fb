"""What a model keeps, layer by layer."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from kanbatsu.sparsity.kept_name import KeptName
from kanbatsu.sparsity.kernel import Kernel
from kanbatsu.sparsity.roles import find_kernels
from kanbatsu.sparsity.table import NOTHING_TO_COUNT, Count, kernel_count
from kanbatsu.sparsity.weight import is_pruned
from kanbatsu.tree import PyTree, leaves_by_path


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
