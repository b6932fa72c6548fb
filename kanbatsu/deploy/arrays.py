"""Reads a safetensors file with numpy alone: a header in JSON, then the bytes of the arrays."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

TYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "I32": np.dtype("<i4"),
    "U16": np.dtype("<u2"),
}
"""Types of the format that a policy uses."""
MOST_BYTES = 2**40
"""Bound of every size and place in a file."""
PREFIX = 8
"""Bytes that hold the length of the header, little-endian."""


def parse(content: bytes) -> dict[str, np.ndarray]:
    """Return the arrays of a safetensors file, by name.

    Args:
        content: the whole file.

    Raises:
        ValueError: if it is no such file, or an array does not lie where its header says.

    Example:
        >>> import safetensors.numpy
        >>> parse(safetensors.numpy.save({"a": np.arange(2, dtype=np.float32)}))
        {'a': array([0., 1.], dtype=float32)}

    Reference:
        https://github.com/huggingface/safetensors#format
    """
    begin = PREFIX + int.from_bytes(content[:PREFIX], "little")
    if len(content) < PREFIX or begin > len(content):
        raise ValueError("it is no safetensors file, or was cut off")
    header = json.loads(content[PREFIX:begin])
    if not isinstance(header, dict):
        raise ValueError("its header is no table")
    data = content[begin:]
    return {name: _array(name, of, data) for name, of in header.items() if name != "__metadata__"}


def _array(name: str, entry: Any, data: bytes) -> np.ndarray:
    try:
        kind, shape, (first, last) = entry["dtype"], entry["shape"], entry["data_offsets"]
        numbers = [*shape, first, last]
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"the header's entry for {name} is incomplete") from None
    if not isinstance(kind, str) or kind not in TYPES:
        raise ValueError(f"{name} is of type {kind}; a policy holds {', '.join(TYPES)}")
    if any(type(number) is not int or not 0 <= number < MOST_BYTES for number in numbers):
        raise ValueError(f"{name} has a size that is none")
    if last > len(data) or last - first != math.prod(shape) * TYPES[kind].itemsize:
        raise ValueError(f"{name} does not fit its place in the file")
    # A copy, so that it is aligned whatever the header's length, and lasts.
    return np.frombuffer(data[first:last], TYPES[kind]).reshape(shape).copy()
