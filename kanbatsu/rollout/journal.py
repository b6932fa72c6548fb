"""What happened in service, as JSON lines: added without ever making the control loop wait.

A folder holds two streams of numbered segments: `events-*.jsonl` for what is rare, and
`actions-*.jsonl` for what comes at the rate of control, so that no flood of actions pushes the
changes of stage out of a bounded record. One process writes; any number read, at any time
(`kanbatsu.rollout.reading`).
"""

from __future__ import annotations

import json
import logging
import queue
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

FREQUENT = frozenset({"action", "shadow"})
"""Kinds of events that come at the rate of control."""

KEPT = frozenset({"stage", "gate", "alarm", "journal"})
"""Kinds of events that are forced to disk at once and never leave the stream of events."""

RARE_PER_SECOND = 20
"""Events of one rare kind beyond this many in a second go to the stream of actions."""

BATCH = 16
"""Events that are written before the writer lets go of the interpreter: about 0.2 ms of work."""

PAUSE = 0.002
"""Seconds between two looks of the writer at its queue."""

SYNC_SECONDS = 1.0
"""Seconds after which what was written is forced to disk, at the latest."""

Listener = Callable[[Mapping[str, Any]], None]
"""What is told of each event, on the writer's thread."""

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
    queue: int = 8192
    """Number of events that wait for the writer; further ones are dropped and counted."""

    def __post_init__(self) -> None:
        if self.segment_bytes < 1 or self.queue < 1:
            raise JournalError("segment_bytes and queue must be at least 1")
        for name in ("events_bytes", "actions_bytes"):
            if getattr(self, name) < 2 * self.segment_bytes:
                raise JournalError(
                    f"{name} = {getattr(self, name)} holds fewer than two segments of "
                    f"{self.segment_bytes} bytes: raise it, or lower segment_bytes"
                )


class Journal:
    """An append-only record of events, written by a thread of its own.

    `append` copies an event into a bounded queue and returns: no disk, no encoding and no lock that
    the writer holds while it works. Where the disk is too slow, events are dropped; a line of kind
    "journal" then says how many. A kill loses what stood in the queue, at most `PAUSE` seconds of
    events where the disk keeps up, and half a line, which the next writer cuts off and says.

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
            listeners: functions called with each event, on the writer's thread: metrics, say. What
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
        self.dropped = 0
        """Events that came while the queue was full."""
        self.lost = 0
        """Events that the disk refused, or that cannot be written as JSON."""
        self.written = 0
        """Events on disk, or on their way there through the system's cache."""
        self.listener_failures = 0
        """Exceptions that listeners raised."""
        self._listeners = tuple(listeners)
        self._queue: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._waiting: list[dict[str, Any]] = []
        self._told = 0
        self._rates: dict[str, tuple[int, int]] = {}
        self._streams = {
            name: Stream(folder, name, self.config.segment_bytes, total)
            for name, total in (
                ("events", self.config.events_bytes),
                ("actions", self.config.actions_bytes),
            )
        }
        for stream in self._streams.values():
            if cut := stream.open():
                self._note(f"half a line at the end of {stream.path.name} was cut off", cut=cut)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="kanbatsu-journal", daemon=True)
        self._thread.start()

    def append(self, event: Mapping[str, Any]) -> None:
        """Hand one event to the writer; it never waits and never raises for what the disk does.

        Args:
            event: flat table with `kind` and `time`; arrays in it are copied.

        Raises:
            JournalError: The journal is closed.
        """
        if self._closing.is_set():
            raise JournalError("the journal is closed: nothing more can be added")
        if self._queue.qsize() >= self.config.queue:
            self.dropped += 1
            return
        self._queue.put(
            {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in event.items()}
        )

    def close(self) -> None:
        """Write what waits, force it to disk, and let another process write."""
        if not self._closing.is_set():
            self._closing.set()
            self._thread.join()
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

    def _work(self) -> None:
        """Write until the journal is closed and nothing waits any more."""
        synced = time.monotonic()
        while True:
            closing = self._closing.is_set()
            count = self._batch()
            if time.monotonic() - synced > SYNC_SECONDS:
                self._sync()
                synced = time.monotonic()
            if count == 0 and closing:
                break
            # Letting go, however shortly, is what lets the control loop have the interpreter.
            time.sleep(0.0 if count == BATCH or closing else PAUSE)
        for stream in self._streams.values():
            stream.close()

    def _batch(self) -> int:
        """Write some of what waits; return how many events that was."""
        if self.dropped > self._told:
            self._note("the queue was full", dropped=self.dropped - self._told)
            self._told = self.dropped
        batch, self._waiting = self._waiting, []
        while len(batch) < BATCH:
            try:
                batch.append(self._queue.get_nowait())
            except queue.Empty:
                break
        lines: dict[str, list[bytes]] = {"events": [], "actions": []}
        for event in batch:
            try:
                line = json.dumps(finite(event), allow_nan=False, ensure_ascii=False) + "\n"
                lines[self._stream_of(event)].append(line.encode())
            except (TypeError, ValueError, KeyError) as error:
                self.lost += 1
                log.warning("an event cannot be written as JSON (%s): %.200r", error, event)
        for name, encoded in lines.items():
            self._write(self._streams[name], encoded)
        if any(event.get("kind") in KEPT for event in batch):
            self._sync()
        for event in batch:
            self._tell(event)
        return len(batch)

    def _write(self, stream: Stream, lines: list[bytes]) -> None:
        if not lines:
            return
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
        for stream in self._streams.values():
            stream.sync()

    def _tell(self, event: Mapping[str, Any]) -> None:
        for listener in self._listeners:
            try:
                listener(event)
            except Exception:
                self.listener_failures += 1
                log.exception("a listener of the journal failed")

    def _note(self, detail: str, **numbers: int) -> None:
        log.warning("journal: %s (%s)", detail, numbers)
        self._waiting.append({"kind": "journal", "time": time.time(), "detail": detail, **numbers})
