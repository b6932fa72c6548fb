"""Pieces of C99: numbers, arrays and comments, each as text that every compiler reads alike."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np

PER_LINE = 8
"""Numbers on a line of an array."""
UNSIGNED = (("uint8_t", 2**8), ("uint16_t", 2**16), ("uint32_t", 2**32))
"""Types of whole numbers, and the first number that each cannot hold."""


def literal(value: float) -> str:
    """Write a number of float32; nine digits give the same number again.

    Example:
        >>> literal(1.0), literal(0.1), literal(1e-20)
        ('1.0f', '0.1f', '1e-20f')
    """
    digits = f"{value:.9g}"
    return f"{digits}f" if "." in digits or "e" in digits else f"{digits}.0f"


def floats(name: str, values: np.ndarray) -> str:
    """Write a constant array of float32 numbers, whatever its shape, laid end to end.

    Example:
        >>> print(floats("bias", np.ones(2)))
        static const float bias[2] = {
          1.0f, 1.0f,
        };
    """
    return _array("float", name, [literal(value) for value in values.ravel().tolist()])


def integers(name: str, values: np.ndarray) -> str:
    """Write a constant array of whole numbers, in the smallest type that holds them.

    Example:
        >>> print(integers("sources", np.array([3, 256])))
        static const uint16_t sources[2] = {
          3, 256,
        };
    """
    greatest = int(values.max(initial=0))
    kind = next(kind for kind, first in UNSIGNED if greatest < first)
    return _array(kind, name, [str(value) for value in values.ravel().tolist()])


def _array(kind: str, name: str, numbers: Sequence[str]) -> str:
    rows = range(0, len(numbers), PER_LINE)
    lines = [f"  {', '.join(numbers[row : row + PER_LINE])}," for row in rows]
    # An array of nothing is no array of C: a layer may keep no weight.
    return "\n".join(
        [
            f"static const {kind} {name}[{max(len(numbers), 1)}] = {{",
            *(lines or ["  0"]),
            "};",
        ]
    )


def comment(lines: Iterable[str]) -> str:
    """Write a comment; what could end it or continue it is taken out.

    Example:
        >>> print(comment(["force [N] */ evil"]))
        /* force [N] _/ evil
         */
    """
    plain = [re.sub(r"[^A-Za-z0-9 _.,:;/()\[\]+=<>%'-]", "_", line) for line in lines]
    return "/* " + "\n * ".join(plain).replace(" \n", "\n") + "\n */"


def indented(lines: Iterable[str], by: int = 2) -> list[str]:
    """Move lines to the right."""
    return [f"{' ' * by}{line}" if line else line for line in lines]
