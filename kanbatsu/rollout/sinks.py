"""The one queue of a service: events and work that no control loop waits for, done by a thread."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from kanbatsu.rollout.events import Sink, event
from kanbatsu.rollout.journal import Journal

BATCH = 16
"""Events that are handled before the thread lets go of the interpreter: about 0.2 ms of work."""

PAUSE = 0.002
"""Seconds between two looks of the thread at its queue: one that waits in it would have to be woken
by the control loop, at each event."""


class Background:
    """Gives events to a slow sink from a thread, in their order; it never blocks and never raises.

    A disk may stall for a second, and be full. Events that find the queue full, and those at which
    the sink raises, are lost and counted in `lost`; an event of kind "journal" says how many found
    it full. Counts of triggers go on in the guard itself.

    Args:
        sink: what is slow: a function of an event, or a journal, which then writes many at a time.
        size: events that may wait.

    Example:
        >>> kept = []
        >>> with Background(kept.append) as sink:
        ...     sink({"kind": "stage"})
        ...     sink.run(lambda: kept.append("work"))
        >>> kept, sink.lost
        ([{'kind': 'stage'}, 'work'], 0)
    """

    def __init__(self, sink: Sink | Journal, size: int = 8192) -> None:
        self._slow, self._size = sink, size
        self._queue: queue.SimpleQueue[Mapping[str, Any] | Callable[[], None]] = queue.SimpleQueue()
        self.dropped = 0
        """Events that found the queue full."""
        self._failed = self._said = 0
        self.last_error = ""
        """What the sink raised last; empty where it never did."""
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True, name="kanbatsu-events")
        self._thread.start()

    @property
    def lost(self) -> int:
        """How many events were not recorded."""
        return self.dropped + self._failed

    def __call__(self, record: Mapping[str, Any]) -> None:
        """Hand an event over."""
        if self._queue.qsize() >= self._size:
            self.dropped += 1
        else:
            self._queue.put(record)

    def run(self, work: Callable[[], None]) -> None:
        """Hand over a function of nothing, to be called between events; it is lost like them."""
        if self._queue.qsize() >= self._size:
            self.dropped += 1
        else:
            self._queue.put(work)

    def __enter__(self) -> Background:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self, seconds: float = 5.0) -> None:
        """Record what waits, for a while at most."""
        self._closing.set()
        self._thread.join(seconds)

    def _work(self) -> None:
        while True:
            closing = self._closing.is_set()
            count = self._batch()
            if count == 0 and closing:
                return
            # Letting go, however shortly, is what lets the control loop have the interpreter.
            time.sleep(0.0 if count >= BATCH or closing else PAUSE)

    def _batch(self) -> int:
        """Handle some of what waits; return how much that was."""
        records: list[Mapping[str, Any]] = []
        if (dropped := self.dropped) > self._said:
            detail = "the queue was full"
            records.append(event("journal", detail=detail, dropped=dropped - self._said))
            self._said = dropped
        count = 0
        while count < BATCH:
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                break
            count += 1
            if callable(item):
                self._give(records)
                records = []
                self._try(item)
            else:
                records.append(item)
        self._give(records)
        return count

    def _give(self, records: list[Mapping[str, Any]]) -> None:
        sink = self._slow
        if isinstance(sink, Journal):
            self._try(sink.extend, records)
            return
        for record in records:
            self._try(sink, record)

    def _try(self, work: Callable[..., None], *given: Any) -> None:
        try:
            work(*given)
        except Exception as error:
            self._failed += 1
            self.last_error = f"{type(error).__name__}: {error}"
