"""What is kept, as a table: one row for each kernel, of any framework."""

from __future__ import annotations

from dataclasses import dataclass

from kanbatsu.sparsity.kernel import Kernel

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


def kernel_count(kernel: Kernel, kept: int) -> LayerCount:
    """Return the row of a kernel that keeps so many weights."""
    return LayerCount(kernel.path, (*kernel.members, *kernel.shape), kept, kernel.size)
