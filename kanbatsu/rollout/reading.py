"""Reading a journal back, also while it is being written: what is new, and what is damaged."""

from __future__ import annotations

import heapq
import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from kanbatsu.rollout.segments import segments

JOURNAL = "journal"
"""Folder of the journal, in the folder of a rollout."""

STREAMS = ("events", "actions")
"""Names of the streams of a journal."""


class Reader:
    """The reading end of a journal; each call of `new` goes on where the last one ended.

    It never locks and never waits. Half a line at the very end is left for the next call, for it
    may be in the middle of being written; anything else that is not a line of JSON with a kind and
    a time is passed over, and said in `notes`.

    Example:
        >>> import tempfile
        >>> from kanbatsu.rollout.journal import Journal
        >>> folder = Path(tempfile.mkdtemp())
        >>> reader = Reader(folder)
        >>> with Journal(folder) as journal:
        ...     journal.append({"kind": "guard", "time": 1.0, "trigger": "deadline"})
        >>> len(list(reader.new())), len(list(reader.new())), reader.notes
        (1, 0, [])
    """

    def __init__(self, folder: Path) -> None:
        """Begin at the oldest line that is kept.

        Args:
            folder: folder of the journal; it may be made later.
        """
        self._folder = folder
        self._places = dict.fromkeys(STREAMS, (0, 0))
        self._half: dict[str, str] = {}
        self._notes: list[str] = []

    @property
    def notes(self) -> list[str]:
        """Sentences on what could not be read so far."""
        return [*self._notes, *self._half.values()]

    def new(self) -> Iterator[dict[str, Any]]:
        """Yield the events that were added since the last call, by time.

        All of them must be taken, or later calls may miss some.
        """
        self._half = {}
        streams = (self._read(stream) for stream in STREAMS)
        yield from heapq.merge(*streams, key=lambda event: event["time"])

    def _read(self, stream: str) -> Iterator[dict[str, Any]]:
        number, offset = self._places[stream]
        present = [(n, path) for n, path in segments(self._folder, stream) if n >= number]
        if number and present and present[0][0] > number:
            self._notes.append(
                f"{stream}: segments {number} to {present[0][0] - 1} were rotated away before "
                "they were read to their end"
            )
        for index, (n, path) in enumerate(present):
            start = offset if n == number else 0
            try:
                with path.open("rb") as file:
                    file.seek(start)
                    complete, newline, rest = file.read().rpartition(b"\n")
            except FileNotFoundError:
                self._notes.append(f"{path.name} was rotated away before it was read")
                continue
            self._places[stream] = (n, start + len(complete) + len(newline))
            if rest:
                half = f"{path.name}: half a line at its end ({len(rest)} bytes) is ignored"
                if index + 1 < len(present):
                    self._notes.append(half)
                else:
                    self._half[stream] = half
            yield from self._events(path, complete)

    def _events(self, path: Path, complete: bytes) -> Iterator[dict[str, Any]]:
        damaged = 0
        for line in complete.splitlines():
            try:
                event = json.loads(line)
                fit = isinstance(event["kind"], str) and isinstance(event["time"], (int, float))
            except (ValueError, RecursionError, KeyError, TypeError):
                fit = False
            if fit:
                yield event
            else:
                damaged += 1
        if damaged:
            self._notes.append(f"{path.name}: {damaged} damaged lines were passed over")


def read(
    folder: Path,
    kinds: Collection[str] | None = None,
    since: float = float("-inf"),
    until: float = float("inf"),
    reader: Reader | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield the events of a journal, by time.

    Args:
        folder: folder of the journal.
        kinds: kinds of events that are wanted; all by default.
        since: time of the first event that is wanted, in seconds since 1970.
        until: time before which events are wanted, in seconds since 1970.
        reader: reader to use, whose `notes` then say what could not be read.

    Returns:
        An iterator over tables as they were appended; numbers that were not finite are None.

    Example:
        >>> list(read(Path("nowhere"), kinds={"stage"}))
        []
    """
    for event in (reader or Reader(folder)).new():
        if (kinds is None or event["kind"] in kinds) and since <= event["time"] < until:
            yield event
