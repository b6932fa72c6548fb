"""Small layers that keep all their weights, multiplied by the kernels that their neighbours use.

The kernels write activations feature by feature, and a dense product of XLA sample by sample: each
border between the two is a transposition of all activations, which takes longer than a small layer.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from kanbatsu.flax.kept_product import multiply
from kanbatsu.flax.places import Matrix
from kanbatsu.kernels.products import LayerSizes
from kanbatsu.sparsity.worth import SMALLEST

GROUP_SIZE = 16
MOST_MEMBERS = 8
"""Members of an ensemble up to which each has a product of its own in the program."""


def multiply_whole(x: Array, kernel: Any, bias: Array | None) -> Array | None:
    """Return `x W + bias` of a layer that keeps all, or None where a dense product is as good.

    Args:
        x: float32, `[..., inputs]`.
        kernel: float32, `[inputs, outputs]`; of one member, where Flax's `vmap` stacked several.
        bias: float32, `[outputs]`.
    """
    stacked, axis = getattr(kernel, "val", None), getattr(kernel, "batch_dim", None)
    members = 1 if axis is None or stacked is None else stacked.shape[axis]
    if kernel.ndim != 2 or kernel.size > SMALLEST or members > MOST_MEMBERS:
        return None
    inputs, outputs = kernel.shape
    groups = -(-outputs // GROUP_SIZE)
    with jax.ensure_compile_time_eval():
        sources = jnp.tile(jnp.arange(inputs, dtype=jnp.int32), (groups, 1))
    matrix = Matrix((sources,), LayerSizes("grouped", inputs, outputs, GROUP_SIZE))
    padded = jnp.pad(kernel, ((0, 0), (0, groups * GROUP_SIZE - outputs)))
    values = padded.reshape(inputs, groups, GROUP_SIZE).transpose(1, 0, 2)
    return multiply((matrix,) * members, x, values, kernel, bias)
