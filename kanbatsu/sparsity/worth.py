"""Which layers multiply by their kept weights only: a rule that reads the mask alone."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kanbatsu.kernels.constants import GROUP_SIZES, MOST_FEATURES

SMALLEST = 1 << 14
"""Weights of a layer, before pruning, below which packing saves nothing worth having: its dense
products take less time than it takes to begin a kernel (benchmarks/layers.py)."""


class MostKept(NamedTuple):
    """Shares kept up to which packed products take less time than dense ones."""

    singly: float
    """The share of weights that were drawn one by one."""
    in_groups: float
    """The share of weights that were drawn in groups of a size that the kernels know."""


MOST_KEPT = MostKept(singly=0.3, in_groups=0.5)
"""The shares for JAX. The products of a 512 x 2048 layer were measured to break even at 0.33 and
0.86 on a machine with AVX2, and at 0.58 and beyond 1 on one with AVX-512 (docs/sparse-compute.md;
benchmarks/layers.py). These lie below both."""


def is_worth_packing(
    mask: np.ndarray, group_size: int | None, most_kept: MostKept = MOST_KEPT
) -> bool:
    """Return whether `mixed` packs a layer.

    Args:
        mask: `[inputs, outputs]` or the reverse, True = kept.
        group_size: outputs that keep the same inputs; None where weights were drawn one by one.
        most_kept: how much the layer may keep.

    Example:
        >>> mask = np.arange(1 << 14).reshape(128, 128) % 4 == 0
        >>> is_worth_packing(mask, None), is_worth_packing(~mask, None)
        (True, False)
    """
    if group_size is None:
        is_possible, most = max(mask.shape) <= MOST_FEATURES, most_kept.singly
    else:
        is_possible, most = group_size in GROUP_SIZES, most_kept.in_groups
    return is_possible and mask.size >= SMALLEST and 0.0 < float(mask.mean()) <= most
