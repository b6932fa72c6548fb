"""What `compute="auto"` comes to on this machine."""

from __future__ import annotations

import jax

from kanbatsu.kernels.library import library
from kanbatsu.sparsity.config import COMPUTE, check_choice


def resolve(compute: str) -> str:
    """Say what `auto` comes to on this machine: `mixed` on a CPU with kernels, else `masked`.

    Args:
        compute: one of `kanbatsu.sparsity.config.COMPUTE`.

    Returns:
        `masked`, `mixed` or `packed`; whatever is not `auto` stays as it is.

    Raises:
        ValueError: for another word.

    Example:
        >>> resolve("packed")
        'packed'
    """
    check_choice("compute", compute, COMPUTE)
    if compute != "auto":
        return compute
    return "mixed" if jax.default_backend() == "cpu" and library() is not None else "masked"
