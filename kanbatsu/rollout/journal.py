"""What happened in service, as JSON lines in bounded files that survive a kill.

A folder holds two streams of numbered segments: `events-*.jsonl` for what is rare, and
`actions-*.jsonl` for what comes at the rate of control, so that no flood of actions pushes the
changes of stage out of a bounded record. One process writes; any number read, at any time
(`kanbatsu.rollout.reading`).
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from kanbatsu.files.disk import finite
from kanbatsu.files.lock import StudyError, take
from kanbatsu.rollout.config import RolloutError
from kanbatsu.rollout.segments import Stream

LOCK = ".journal.lock"
"""Name of the file that the writer of a journal holds locked."""

FREQUENT = frozenset({"action", "shadow", "samples"})
"""Kinds of events that come at the rate of control."""

KEPT = frozenset({"stage", "gate", "alarm", "journal"})
"""Kinds of events that are forced to disk at once and never leave the stream of events."""

RARE_PER_SECOND = 20
"""Events of one rare kind beyond this many in a second go to the stream of actions."""

SYNC_SECONDS = 1.0
"""Seconds after which what was written is forced to disk, at the latest."""

Listener = Callable[[Mapping[str, Any]], None]
"""What is told of each event, once it is written."""

log = logging.getLogger(__name__)


class JournalError(RolloutError):
    """A journal that cannot be written; the message says why and what to do."""


@dataclass(frozen=True)
class JournalConfig:
    """Bounds of how much of a journal is kept.

    Raises:
        JournalError: Fewer than two segments fit, or a bound is not positive.

    Example:
        >>> JournalConfig(segment_bytes=1 << 20).events_bytes
        67108864
    """

    segment_bytes: int = 8 << 20
    """Size in bytes at which a segment is closed and the next one begun."""
    events_bytes: int = 64 << 20
    """Size in bytes of the whole stream of events; the oldest segments go first."""
    actions_bytes: int = 256 << 20
    """Size in bytes of the whole stream of actions; the oldest segments go first."""

    def __post_init__(self) -> None:
        if self.segment_bytes < 1:
            raise JournalError("segment_bytes must be at least 1")
        for name in ("events_bytes", "actions_bytes"):
            if getattr(self, name) < 2 * self.segment_bytes:
                raise JournalError(
                    f"{name} = {getattr(self, name)} holds fewer than two segments of "
                    f"{self.segment_bytes} bytes: raise it, or lower segment_bytes"
                )


class Journal:
    """An append-only record of events, written at once by whoever calls.

    It waits for the disk, so that a control loop gives it to `kanbatsu.rollout.Service` as the
    sink, or to `kanbatsu.rollout.sinks.Background`: both write from a thread of their own, many
    events at a time. A kill loses half a line at most, which the next writer cuts off and says.

    Example:
        >>> import tempfile
        >>> from kanbatsu.rollout.reading import read
        >>> folder = Path(tempfile.mkdtemp())
        >>> with Journal(folder) as journal:
        ...     journal.append({"kind": "stage", "time": 1.0, "to": "shadow"})
        >>> [event["to"] for event in read(folder)]
        ['shadow']
    """

    def __init__(
        self,
        folder: Path,
        config: JournalConfig | None = None,
        listeners: Sequence[Listener] = (),
    ) -> None:
        """Open a journal to write; half a line that a kill left is cut off and said.

        Args:
            folder: folder of the journal; made where there is none.
            config: bounds of what is kept; those of `JournalConfig` by default.
            listeners: functions called with each event, after it is written: metrics, say. What
                they raise is logged and counted in `listener_failures`; nothing stops for it.

        Raises:
            JournalError: Another process writes this journal.
        """
        self.config = config or JournalConfig()
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = (folder / LOCK).open("a")
        try:
            free = take(self._lock)
        except StudyError as error:
            raise JournalError(str(error)) from error
        if not free:
            self._lock.close()
            raise JournalError(
                f"another process writes the journal in {folder}: end it, or give another folder"
            )
        self.lost = 0
        """Events that the disk refused, or that cannot be written as JSON."""
        self.written = 0
        """Events on disk, or on their way there through the system's cache."""
        self.listener_failures = 0
        """Exceptions that listeners raised."""
        self._listeners = tuple(listeners)
        self._rates: dict[str, tuple[int, int]] = {}
        self._writing = threading.Lock()
        self._synced = time.monotonic()
        self._unsynced = False
        self._streams = {
            name: Stream(folder, name, self.config.segment_bytes, total)
            for name, total in (
                ("events", self.config.events_bytes),
                ("actions", self.config.actions_bytes),
            )
        }
        cuts = [(stream, stream.open()) for stream in self._streams.values()]
        for stream, cut in cuts:
            if cut:
                detail = f"half a line at the end of {stream.path.name} was cut off"
                log.warning("journal: %s (%d bytes)", detail, cut)
                self.append({"kind": "journal", "time": time.time(), "detail": detail, "cut": cut})

    def append(self, event: Mapping[str, Any]) -> None:
        """Write one event.

        Args:
            event: flat table with `kind` and `time`; arrays in it become lists.

        Raises:
            JournalError: The journal is closed.
        """
        self.extend([event])

    def extend(self, events: Sequence[Mapping[str, Any]]) -> None:
        """Write events in their order; what a disk refuses is lost, counted in `lost`, and logged.

        Args:
            events: flat tables with `kind` and `time`; where there are none, what was written
                before is still forced to disk in time.

        Raises:
            JournalError: The journal is closed.
        """
        with self._writing:
            if self._lock.closed:
                raise JournalError("the journal is closed: nothing more can be added")
            lines: dict[str, list[bytes]] = {"events": [], "actions": []}
            for event in events:
                try:
                    lines[self._stream_of(event)].append(_line(event))
                except (TypeError, ValueError, KeyError) as error:
                    self.lost += 1
                    log.warning("an event cannot be written as JSON (%s): %.200r", error, event)
            for name, encoded in lines.items():
                self._write(self._streams[name], encoded)
            urgent = any(event.get("kind") in KEPT for event in events)
            if urgent or (self._unsynced and time.monotonic() - self._synced > SYNC_SECONDS):
                self._sync()
            for event in events:
                self._tell(event)

    def close(self) -> None:
        """Force what was written to disk, and let another process write."""
        with self._writing:
            if not self._lock.closed:
                for stream in self._streams.values():
                    stream.close()
                self._lock.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _write(self, stream: Stream, lines: list[bytes]) -> None:
        if not lines:
            return
        self._unsynced = True
        try:
            kept = stream.write(lines)
        except OSError as error:
            self.lost += len(lines)
            log.warning("%s cannot be written (%s): %d events lost", stream.path, error, len(lines))
            return
        self.written += kept
        self.lost += len(lines) - kept

    def _stream_of(self, event: Mapping[str, Any]) -> str:
        kind = event["kind"]
        if kind in FREQUENT:
            return "actions"
        if kind in KEPT:
            return "events"
        second = int(event["time"])
        latest, count = self._rates.get(kind, (second, 0))
        count = count + 1 if latest == second else 1
        self._rates[kind] = (second, count)
        return "events" if count <= RARE_PER_SECOND else "actions"

    def _sync(self) -> None:
        self._synced, self._unsynced = time.monotonic(), False
        for stream in self._streams.values():
            try:
                stream.sync()
            except OSError as error:
                log.warning("%s cannot be forced to disk (%s)", stream.path, error)

    def _tell(self, event: Mapping[str, Any]) -> None:
        for listener in self._listeners:
            try:
                listener(event)
            except Exception:
                self.listener_failures += 1
                log.exception("a listener of the journal failed")


def _line(event: Mapping[str, Any]) -> bytes:
    values = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in event.items()}
    return (json.dumps(finite(values), allow_nan=False, ensure_ascii=False) + "\n").encode()
