"""Work for every member of a population, in threads where that is faster."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from kanbatsu.machine import usable_cores

HANDOVER_SECONDS = 3e-4
"""Seconds that a member must take for a thread of its own to be tried; well above a handover."""

Result = TypeVar("Result")


class Threads:
    """Calls a function for each member: in turn, until a call turns out to be long.

    Then in threads, as many as there are cores. Simulators such as MuJoCo, copies and compiled
    programs let go of Python's lock meanwhile. What members do must not depend on one another.

    Args:
        members: How many there are.

    Example:
        >>> with Threads(3) as threads:
        ...     threads.map(lambda member: 10 * member)
        [0, 10, 20]
    """

    def __init__(self, members: int) -> None:
        self._members = range(members)
        self._pool = ThreadPoolExecutor(max(1, min(members, len(usable_cores()))))
        self._pays = False

    def __enter__(self) -> Threads:
        return self

    def __exit__(self, *raised: object) -> None:
        self._pool.shutdown()

    def map(self, work: Callable[[int], Result]) -> list[Result]:
        """Return `work(member)` of each member, in their order; the first error is raised."""
        if self._pays:
            return list(self._pool.map(work, self._members))
        started = time.perf_counter()
        done = [work(member) for member in self._members]
        spent = time.perf_counter() - started
        self._pays = len(usable_cores()) > 1 and spent > HANDOVER_SECONDS * len(self._members)
        return done
