"""kanbatsu: one-shot random pruning for deep reinforcement learning."""

from kanbatsu.sparsity.count import count
from kanbatsu.sparsity.prune import apply_masks, keep_pruned, make_masks, prune
from kanbatsu.sparsity.weight import Masked, matmul, to_dense

__all__ = [
    "Masked",
    "apply_masks",
    "count",
    "keep_pruned",
    "make_masks",
    "matmul",
    "prune",
    "to_dense",
]

__version__ = "0.1.0"
