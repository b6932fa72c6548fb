"""A sink that no control loop waits for: events are handed to a thread, which records them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Mapping
from typing import Any

from kanbatsu.rollout.events import Sink


class Background:
    """Gives events to a slow sink from a thread; it never blocks and never raises.

    A disk may stall for a second, and be full. Events that find the queue full, and those at which
    the sink raises, are lost and counted in `lost`; counts of triggers go on in the guard itself.

    Args:
        sink: what is slow.
        size: events that may wait.

    Example:
        >>> kept = []
        >>> with Background(kept.append) as sink:
        ...     sink({"kind": "stage"})
        >>> kept, sink.lost
        ([{'kind': 'stage'}], 0)
    """

    def __init__(self, sink: Sink, size: int = 4096) -> None:
        self._slow, self._size = sink, size
        self._events: queue.SimpleQueue[Mapping[str, Any] | None] = queue.SimpleQueue()
        self._overflowed = self._failed = 0
        self.last_error = ""
        """What the sink raised last; empty where it never did."""
        self._thread = threading.Thread(target=self._work, daemon=True, name="kanbatsu-events")
        self._thread.start()

    @property
    def lost(self) -> int:
        """How many events were not recorded."""
        return self._overflowed + self._failed

    def __call__(self, record: Mapping[str, Any]) -> None:
        """Hand an event over."""
        if self._events.qsize() >= self._size:
            self._overflowed += 1
        else:
            self._events.put(record)

    def __enter__(self) -> Background:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self, seconds: float = 5.0) -> None:
        """Record what waits, for a while at most."""
        self._events.put(None)
        self._thread.join(seconds)

    def _work(self) -> None:
        while (record := self._events.get()) is not None:
            try:
                self._slow(record)
            except Exception as error:
                self._failed += 1
                self.last_error = f"{type(error).__name__}: {error}"
