"""One run carried through: a worker is started, watched, and started again where it died.

Every engine does this, beside the run: the local one in its own process, Ray in a task, Slurm in a
job. What is not seen here is the end of the machine itself; that is for the scheduler to see.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from kanbatsu.engine.worker import Worker
from kanbatsu.files.store import RunFolder

POLL_SECONDS = 0.2
"""Seconds between two looks at a worker."""


@dataclass(frozen=True)
class Order:
    """A run to be carried through, in plain values: it travels to other machines."""

    run: Mapping[str, Any]
    """The `Run` record as nested dicts."""
    folder: str
    """The run's own folder, under the same path on every machine."""
    cwd: str
    """The folder that the user stands in; a task may look for its files there."""
    retries: int = 2
    """Times that a worker that died is started again."""
    timeout_seconds: float | None = None
    """A run that makes no progress for so long is ended; None = never."""


class RunEnd(NamedTuple):
    """How a run ended."""

    error: str | None
    """Why the run failed; None where it is finished."""


class Supervised:
    """A run in the hands of a worker, and of the next one where the worker dies.

    Args:
        order: What to do.
        cores: For the worker.
        environment: Variables of the worker.
    """

    def __init__(self, order: Order, cores: Sequence[int], environment: Mapping[str, str]) -> None:
        self.warnings: list[str] = []
        """Warnings that nobody was shown yet."""
        self.end: RunEnd | None = None
        """How the run ended; None while it goes on."""
        self._order, self._cores, self._environment = order, cores, environment
        self._files = RunFolder(Path(order.folder))
        self._deaths = 0
        self._begin()

    def _begin(self) -> None:
        cwd = Path(self._order.cwd)
        self._worker = Worker(
            self._order.run,
            self._files.path,
            self._cores,
            self._environment,
            cwd if cwd.is_dir() else None,
        )
        self._heard, self._moved_at = 0, time.monotonic()

    def poll(self) -> RunEnd | None:
        """Look at the worker; store a failure that it could not store itself.

        Returns:
            None while the run goes on.
        """
        self.end = self.end or self._look()
        return self.end

    def _look(self) -> RunEnd | None:
        worker, limit = self._worker, self._order.timeout_seconds
        code = worker.poll()
        self.warnings += worker.warnings
        worker.warnings.clear()
        if worker.messages > self._heard:
            self._heard, self._moved_at = worker.messages, time.monotonic()
        if code is None:
            if limit is None or time.monotonic() - self._moved_at < limit:
                return None
            worker.kill()
            return self._fail(_how_it_hung(limit, worker.env_steps))
        if code == 0 and self._files.finished:
            worker.close()
            return RunEnd(None)
        if worker.error is not None:  # stored by the run itself
            worker.close()
            return RunEnd(worker.error)
        if self._deaths < self._order.retries:
            self._deaths += 1
            again = f"starting it again ({self._deaths} of {self._order.retries})"
            self.warnings.append(f"{how_it_ended(code)}; {again}")
            worker.close()
            self._begin()
            return None
        return self._fail(how_it_ended(code))

    def stop(self) -> None:
        """Ask the worker to end; the run continues from its last checkpoint another time."""
        self._worker.terminate()

    def wait(self) -> None:
        """Wait until the worker has ended."""
        self._worker.wait()

    def _fail(self, error: str) -> RunEnd:
        with contextlib.suppress(OSError):  # a full disk must not stop the other runs
            self._files.write_status("failed", error, self._worker.printed())
        self._worker.close()
        return RunEnd(error)


def carry_through(
    order: Order, cores: Sequence[int], environment: Mapping[str, str] = os.environ
) -> RunEnd:
    """Carry one run through, and return how it ended; warnings are printed."""
    supervised = Supervised(order, cores, environment)
    try:
        while (end := supervised.poll()) is None:
            time.sleep(POLL_SECONDS)
            for warning in supervised.warnings:
                print(f"kanbatsu: {warning}", flush=True)  # noqa: T201 - for the scheduler's log
            supervised.warnings.clear()
    except BaseException:
        supervised.stop()
        supervised.wait()
        raise
    return end


def how_it_ended(code: int) -> str:
    """Say how a worker ended that could not say it itself.

    Example:
        >>> how_it_ended(-11)
        'worker was killed by signal 11 (SIGSEGV)'
    """
    if code >= 0:
        return f"worker ended with exit code {code} before its run was finished"
    text = f"worker was killed by signal {-code} ({signal.Signals(-code).name})"
    if code == -signal.SIGKILL:
        text += "; if memory ran out, use fewer --workers or a smaller train.replay_capacity"
    return text


def _how_it_hung(limit: float, env_steps: int | None) -> str:
    where = "before its first step" if env_steps is None else f"after {env_steps:,} env steps"
    return (
        f"no progress for {limit:g} seconds, {where}: the worker was killed (--run-timeout). "
        "What it was doing is in status.json, last line first"
    )
