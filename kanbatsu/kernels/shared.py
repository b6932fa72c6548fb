"""The shared library of compiled kernels: found and loaded where it was built, without JAX."""

from __future__ import annotations

import contextlib
import ctypes
import difflib
import functools
import importlib.metadata
import logging
import os
from collections.abc import Iterator
from pathlib import Path

log = logging.getLogger(__name__)

FILE = "kanbatsu_kernels.so"
INSTRUCTION_SETS = ("avx512", "avx2", "portable")
"""Names that the environment variable `KANBATSU_ISA` may have, the fastest first."""


@functools.cache
def shared_library() -> ctypes.CDLL | None:
    """Load the kernels once; None, said once, where there are none.

    Raises:
        ValueError: if `KANBATSU_ISA` names an instruction set that is none, or not one of this
            processor.

    Example:
        >>> shared_library() is shared_library()
        True
    """
    for path in _places():
        if path.exists():
            loaded = ctypes.CDLL(str(path))
            loaded.kanbatsu_isa.restype = ctypes.c_char_p
            _check_wish(loaded.kanbatsu_isa().decode())
            return loaded
    log.warning(
        "kanbatsu was installed without its kernels (there was no C++ compiler): pruned "
        "weights are multiplied as masked dense ones. With GCC or Clang installed, "
        "`pip install --force-reinstall --no-binary kanbatsu kanbatsu` builds them."
    )
    return None


def _check_wish(chosen: str) -> None:
    """Refuse a `KANBATSU_ISA` that the kernels could not follow.

    Args:
        chosen: the instruction set that they chose.
    """
    wish = os.environ.get("KANBATSU_ISA")
    if wish in (None, chosen):
        return
    if wish in INSTRUCTION_SETS:
        why = f"this processor, or this build of the kernels, has no {wish}."
    else:
        near = difflib.get_close_matches(str(wish).lower(), INSTRUCTION_SETS, n=1)
        why = "there is no such instruction set" + (f": did you mean {near[0]}?" if near else ".")
    raise ValueError(
        f"KANBATSU_ISA={wish}: {why} The names are {', '.join(INSTRUCTION_SETS)}; without the "
        "variable the best of this processor is taken"
    )


def _places() -> Iterator[Path]:
    """Where the library may be: beside this file, or, of an editable install, among packages."""
    yield Path(__file__).with_name(FILE)
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        installed = importlib.metadata.distribution("kanbatsu")
        yield Path(str(installed.locate_file(f"kanbatsu/kernels/{FILE}")))
