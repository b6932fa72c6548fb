"""The shared library of compiled kernels: found and loaded where it was built, without JAX."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.metadata
import logging
from collections.abc import Iterator
from pathlib import Path

log = logging.getLogger(__name__)

FILE = "kanbatsu_kernels.so"


@functools.cache
def shared_library() -> ctypes.CDLL | None:
    """Load the kernels once; None, said once, where there are none.

    Example:
        >>> shared_library() is shared_library()
        True
    """
    for path in _places():
        if path.exists():
            return ctypes.CDLL(str(path))
    log.warning(
        "kanbatsu was installed without its kernels (there was no C++ compiler): pruned "
        "weights are multiplied as masked dense ones. With GCC or Clang installed, "
        "`pip install --force-reinstall --no-binary kanbatsu kanbatsu` builds them."
    )
    return None


def _places() -> Iterator[Path]:
    """Where the library may be: beside this file, or, of an editable install, among packages."""
    yield Path(__file__).with_name(FILE)
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        installed = importlib.metadata.distribution("kanbatsu")
        yield Path(str(installed.locate_file(f"kanbatsu/kernels/{FILE}")))
