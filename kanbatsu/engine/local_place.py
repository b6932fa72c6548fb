"""This machine as a place for runs: processes bound to their share of the cores."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from kanbatsu.engine.supervise import Order, Supervised
from kanbatsu.engine.worker import shares
from kanbatsu.machine import usable_cores


class LocalPlace:
    """Runs side by side on this machine.

    Args:
        workers: Runs at the same time; the cores are divided among them.
    """

    def __init__(self, workers: int) -> None:
        self._cores = shares(usable_cores(), workers)
        self._jobs: dict[int, Supervised] = {}
        # Compiled programs: the seeds of an arm need not compile again, which takes most of the
        # time of a short run. The folder belongs to this place alone, so that no program outlives
        # the library, or leaves the machine, that it was compiled for.
        self._compiled = tempfile.TemporaryDirectory(prefix="kanbatsu-")

    def room(self) -> int:
        """Return how many workers are free."""
        self._jobs = {slot: job for slot, job in self._jobs.items() if job.end is None}
        return len(self._cores) - len(self._jobs)

    def start(self, orders: Sequence[Order]) -> list[Supervised]:
        """Start a worker for each run, on the cores of a worker that is free."""
        environment = worker_environment(Path(self._compiled.name))
        started = []
        free = (slot for slot in range(len(self._cores)) if slot not in tuple(self._jobs))
        for order, slot in zip(orders, free, strict=False):
            self._jobs[slot] = Supervised(order, self._cores[slot], environment)
            started.append(self._jobs[slot])
        return started

    def describe(self) -> str:
        """Say how many workers there are, and how many cores each has."""
        each = len(self._cores[0])
        return f"{len(self._cores)} at a time, on {each} core{'s' * (each != 1)} each"

    def stop(self) -> None:
        """Ask all workers to end, and wait until they have."""
        going = [job for job in self._jobs.values() if job.end is None]
        for job in going:
            job.stop()
        for job in going:
            job.wait()
        self._compiled.cleanup()


def worker_environment(compiled: Path) -> dict[str, str]:
    """Return the variables of a worker; what the user has set stays.

    Args:
        compiled: A folder for compiled programs.
    """
    return {
        "JAX_COMPILATION_CACHE_DIR": str(compiled),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
        # Several workers may share one accelerator, of which the first would take three quarters.
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        **os.environ,
    }
