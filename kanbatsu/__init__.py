"""kanbatsu: one-shot random pruning for deep reinforcement learning.

The names below are imported when they are first used, with JAX, Equinox and Optax (the extra
`jax`): PyTorch users, for whom `kanbatsu.torch` is, and policies on a robot need none of them.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kanbatsu.conduct import carry_out
    from kanbatsu.sparsity.count import count
    from kanbatsu.sparsity.masks import apply_masks, keep_pruned
    from kanbatsu.sparsity.packed import Grouped, Packed
    from kanbatsu.sparsity.prune import make_masks, prune
    from kanbatsu.sparsity.weight import Masked, matmul, to_dense
    from kanbatsu.study.file import load_study

__all__ = [
    "Grouped",
    "Masked",
    "Packed",
    "apply_masks",
    "carry_out",
    "count",
    "keep_pruned",
    "load_study",
    "make_masks",
    "matmul",
    "prune",
    "to_dense",
]

__version__ = "0.1.0"

_HOMES = {
    "kanbatsu.conduct": ("carry_out",),
    "kanbatsu.sparsity.count": ("count",),
    "kanbatsu.sparsity.masks": ("apply_masks", "keep_pruned"),
    "kanbatsu.sparsity.packed": ("Grouped", "Packed"),
    "kanbatsu.sparsity.prune": ("make_masks", "prune"),
    "kanbatsu.sparsity.weight": ("Masked", "matmul", "to_dense"),
    "kanbatsu.study.file": ("load_study",),
}
"""The files of the public names."""

if not TYPE_CHECKING:  # a checker that saw this function would accept any name

    def __getattr__(name: str) -> Any:
        for home, names in _HOMES.items():
            if name in names:
                from kanbatsu.extras import needed_by

                with needed_by(f"kanbatsu.{name}"):
                    return getattr(importlib.import_module(home), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
