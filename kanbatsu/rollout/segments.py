"""One stream of a journal on disk: numbered segments, the oldest of which go when it is full."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from kanbatsu.files.disk import complete_bytes


def segments(folder: Path, stream: str) -> list[tuple[int, Path]]:
    """Return the segments of a stream with their numbers, oldest first.

    Args:
        folder: folder of the journal.
        stream: name of the stream, "events" or "actions".

    Example:
        >>> segments(Path("nowhere"), "events")
        []
    """
    pattern = re.compile(rf"{stream}-(\d{{8}})\.jsonl")
    matches = ((pattern.fullmatch(path.name), path) for path in folder.glob(f"{stream}-*.jsonl"))
    return sorted((int(match[1]), path) for match, path in matches if match)


class Stream:
    """The writing end of one stream."""

    def __init__(self, folder: Path, name: str, segment_bytes: int, total_bytes: int) -> None:
        """Describe a stream; `open` touches the disk.

        Args:
            folder: folder of the journal.
            name: name of the stream.
            segment_bytes: size at which a segment is closed.
            total_bytes: size of all segments together, at most.
        """
        self._folder, self._name = folder, name
        self._segment_bytes, self._total_bytes = segment_bytes, total_bytes
        self._descriptor = -1
        self._size = 0
        self._number = 0

    @property
    def path(self) -> Path:
        """Path of the segment that is being written."""
        return self._folder / f"{self._name}-{self._number:08d}.jsonl"

    def open(self) -> int:
        """Go on with the newest segment; return the bytes of half a line that were cut off."""
        present = segments(self._folder, self._name)
        self._number = present[-1][0] if present else 1
        before = self.path.stat().st_size if present else 0
        self._size = complete_bytes(self.path) if present else 0
        self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        if self._size < before:
            os.ftruncate(self._descriptor, self._size)
        return before - self._size

    def write(self, lines: Sequence[bytes]) -> int:
        """Add whole lines, in a new segment where they do not fit; return how many were kept.

        A line that is larger than a segment is refused: the bound on the whole would not hold.

        Raises:
            OSError: The disk refuses; no part of the lines is left behind where it allows that.
        """
        fit = [line for line in lines if len(line) <= self._segment_bytes]
        pending: list[bytes] = []
        for line in fit:
            if self._size + sum(map(len, pending)) + len(line) > self._segment_bytes:
                self._flush(pending)
                pending = []
                self._rotate()
            pending.append(line)
        self._flush(pending)
        return len(fit)

    def sync(self) -> None:
        """Force what was written to disk."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Force what was written to disk, and let go of the file."""
        self.sync()
        os.close(self._descriptor)

    def _flush(self, lines: Sequence[bytes]) -> None:
        content = b"".join(lines)
        rest = memoryview(content)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:
            os.ftruncate(self._descriptor, self._size)
            raise
        self._size += len(content)

    def _rotate(self) -> None:
        """Begin the next segment, once there is room for the whole of it."""
        self.close()
        present = segments(self._folder, self._name)
        sizes = [path.stat().st_size for _, path in present]
        while sizes and sum(sizes) + self._segment_bytes > self._total_bytes:
            present.pop(0)[1].unlink()
            sizes.pop(0)
        self._number += 1
        self._size = 0
        self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
