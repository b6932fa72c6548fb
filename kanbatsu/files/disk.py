"""JSON on disk: whole files replaced atomically, lines added one by one, both read with care."""

from __future__ import annotations

import hashlib
import json
import math
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kanbatsu.files.shape import misfit
from kanbatsu.files.tables import canonical_hash

SEAL = "checksum"
"""Key of the checksum over everything else in a JSON file."""

REPEAT = "Delete the run's folder and call `kanbatsu study` again: it repeats only what is missing."
"""Advice on a damaged result."""


class DamagedFile(ValueError):
    """A file that is not what was written; the message says which and what to do."""


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Replace `path` atomically by JSON that is equal, byte for byte, for equal values.

    Raises:
        ValueError: A number is not finite; JSON has no word for it.
    """
    text = json.dumps(value, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False)
    replace(path, text + "\n")


def read_json(
    path: Path, shape: Any = dict, remedy: str = "restore or delete it"
) -> dict[str, Any]:
    """Return the object in a JSON file.

    Args:
        path: The file.
        shape: Shape that the object must have; see `kanbatsu.files.shape`.
        remedy: What a reader is to do about a damaged file.

    Raises:
        DamagedFile: The file holds no JSON, or other JSON than was written.
    """
    try:
        value: dict[str, Any] = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DamagedFile(f"{path} is not valid JSON ({error}); {remedy}") from error
    problem = misfit(value, shape)
    if problem is None and SEAL in value and value.pop(SEAL) != canonical_hash(value):
        problem = "its checksum does not match"
    if problem is not None:
        raise DamagedFile(f"{path} is not what was written ({problem}); {remedy}")
    return value


def sealed(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object with its checksum, which `read_json` compares and takes out again.

    Example:
        >>> sealed({"a": 1})[SEAL] == canonical_hash({"a": 1})
        True
    """
    return {**value, SEAL: canonical_hash(value)}


def finite(value: Any) -> Any:
    """Return `value` with every number that is not finite replaced by None, all the way down.

    Example:
        >>> finite({"loss": [1.0, float("inf")]})
        {'loss': [1.0, None]}
    """
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def replace(path: Path, text: str) -> None:
    """Write beside the target, force it to disk, then rename: a full disk keeps the old file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Machines may share the folder, so a process id alone is not unique.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def append(path: Path, record: Mapping[str, Any]) -> None:
    """Add a record to a file of JSON lines; half a line that a kill left there is cut off."""
    line = json.dumps(finite(record), allow_nan=False, ensure_ascii=False).encode() + b"\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        # A kill in the middle of a write leaves half a line; without this the new line joins it.
        file.truncate(complete_bytes(path))
        file.write(line)
        file.flush()


def complete_bytes(path: Path) -> int:
    """Return the length of `path` up to and including its last newline, in bytes."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - 4096)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                return start + newline + 1
            end = start
    return 0


def durable_size(path: Path) -> int:
    """Force a file to disk; return the length of its complete lines, in bytes."""
    if not path.exists():
        return 0
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return complete_bytes(path)


def read_lines(path: Path, misfit_of: Callable[[Any], str | None]) -> list[dict[str, Any]]:
    """Return the complete lines of a run's file of JSON lines; none where there is no file.

    Args:
        path: The file.
        misfit_of: Says what is wrong with a line; None where nothing is.

    Raises:
        DamagedFile: A line is not what was written.
    """
    if not path.exists():
        return []
    complete = path.read_bytes().split(b"\n")[:-1]
    return [
        read_line(line, f"{path}, line {number},", misfit_of, REPEAT)
        for number, line in enumerate(complete, start=1)
    ]


def read_line(
    line: bytes, where: str, misfit_of: Callable[[Any], str | None], remedy: str
) -> dict[str, Any]:
    """Return the object in one line of JSON.

    Raises:
        DamagedFile: The line is not what was written; the message begins with `where`.
    """
    try:
        record: dict[str, Any] = json.loads(line)
        problem = misfit_of(record)
    except (ValueError, RecursionError) as error:
        problem = str(error)
    if problem is not None:
        raise DamagedFile(f"{where} is damaged ({problem}). {remedy}")
    return record


def digest(path: Path, size: int | None = None) -> str:
    """Return the SHA-256 of a file, or of its first `size` bytes, in hexadecimal.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a"
        >>> _ = path.write_bytes(b"abc")
        >>> digest(path, size=2) == hashlib.sha256(b"ab").hexdigest()
        True
    """
    with path.open("rb") as file:
        if size is None:
            return hashlib.file_digest(file, "sha256").hexdigest()
        return hashlib.sha256(file.read(size)).hexdigest()
