"""kanbatsu: one-shot random pruning for deep reinforcement learning.

The names below are imported when they are first used: a policy runs on a robot without JAX.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kanbatsu.sparsity.count import count
    from kanbatsu.sparsity.masks import apply_masks, keep_pruned
    from kanbatsu.sparsity.packed import Grouped, Packed
    from kanbatsu.sparsity.prune import make_masks, prune
    from kanbatsu.sparsity.weight import Masked, matmul, to_dense

__all__ = [
    "Grouped",
    "Masked",
    "Packed",
    "apply_masks",
    "count",
    "keep_pruned",
    "make_masks",
    "matmul",
    "prune",
    "to_dense",
]

__version__ = "0.1.0"

_HOMES = {
    "count": ("count",),
    "masks": ("apply_masks", "keep_pruned"),
    "packed": ("Grouped", "Packed"),
    "prune": ("make_masks", "prune"),
    "weight": ("Masked", "matmul", "to_dense"),
}
"""The files of `kanbatsu.sparsity`, and the public names of each."""

if not TYPE_CHECKING:  # a checker that saw this function would accept any name

    def __getattr__(name: str) -> Any:
        for home, names in _HOMES.items():
            if name in names:
                return getattr(importlib.import_module(f"kanbatsu.sparsity.{home}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
