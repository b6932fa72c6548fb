"""The compiled kernels, made known to JAX where they were built."""

from __future__ import annotations

import ctypes
import functools

import jax

from kanbatsu.kernels.shared import shared_library

TARGETS = (
    "packed_affine",
    "packed_input_gradient",
    "packed_weight_gradient",
    "grouped_affine",
    "grouped_input_gradient",
    "grouped_weight_gradient",
    "batch_sum",
    "packed_trunk",
    "packed_trunk_traces",
    "packed_trunk_input_gradient",
    "packed_trunk_gradients",
    "grouped_trunk",
    "grouped_trunk_traces",
    "grouped_trunk_input_gradient",
    "grouped_trunk_gradients",
)


@functools.cache
def library() -> ctypes.CDLL | None:
    """Load the kernels and register them with JAX, once; None where there are none."""
    loaded = shared_library()
    if loaded is None:
        return None
    for target in TARGETS:
        handler = jax.ffi.pycapsule(getattr(loaded, f"kanbatsu_{target}"))
        jax.ffi.register_ffi_target(f"kanbatsu_{target}", handler, platform="cpu")
    return loaded


def instruction_set() -> str | None:
    """Return which kernels run here: avx512, avx2 or portable; None without kernels.

    The environment variable `KANBATSU_ISA` names others than the best.
    """
    loaded = library()
    return None if loaded is None else loaded.kanbatsu_isa().decode()


def set_threads(threads: int) -> None:
    """Limit the threads of every product that follows.

    The threads are XLA's own: as many as there are cores that the process may use.

    Args:
        threads: the most to use at once; 0 lifts the limit.

    Raises:
        ValueError: for a negative number.

    Example:
        >>> set_threads(1)
        >>> set_threads(0)
    """
    if threads < 0:
        raise ValueError(f"threads must be at least 1, or 0 for no limit: got {threads}")
    loaded = library()
    if loaded is not None:
        loaded.kanbatsu_set_threads(threads)
