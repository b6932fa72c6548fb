"""One run carried through: a worker is started, watched, and started again where it died.

Every engine does this, beside the run: the local one in its own process, Ray in a task, Slurm in a
job. What is not seen here is the end of the machine itself; that is for the scheduler to see.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from kanbatsu.engine.worker import Worker
from kanbatsu.files.disk import DamagedFile
from kanbatsu.files.store import RunFolder

POLL_SECONDS = 0.2
"""Seconds between two looks at a worker."""


@dataclass(frozen=True)
class Order:
    """Runs to be carried through, in plain values: it travels to other machines."""

    runs: Mapping[str, Mapping[str, Any]]
    """`Run` records as nested dicts, by the folder of each, which has the same path on every
    machine: one, or several that go side by side."""
    cwd: str
    """The folder that the user stands in; a task may look for its files there."""
    retries: int = 2
    """Times that a worker that died is started again."""
    timeout_seconds: float | None = None
    """A run that makes no progress for so long is ended; None = never."""

    @property
    def folder(self) -> Path:
        """The folder of the first run."""
        return Path(next(iter(self.runs)))


class RunEnd(NamedTuple):
    """End of a run."""

    error: str | None
    """Reason why the run failed; None where it is finished."""


class Supervised:
    """Runs in the hands of a worker, and of the next one where the worker dies.

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
        self._files = [RunFolder(Path(folder)) for folder in order.runs]
        self._deaths = 0
        self._begin()

    def _begin(self) -> None:
        cwd = Path(self._order.cwd)
        runs = {Path(folder): run for folder, run in self._order.runs.items()}
        here = cwd if cwd.is_dir() else None
        self._worker = Worker(runs, self._cores, self._environment, here)
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
            if limit is None or not worker.begun or time.monotonic() - self._moved_at < limit:
                return None
            worker.kill()
            return self._fail(_how_it_hung(limit, worker.env_steps))
        if all(map(is_finished, self._files)):  # whatever a library did as the process ended
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
        for files in self._files:
            with contextlib.suppress(OSError):  # a full disk must not stop the other runs
                if not is_finished(files):
                    files.write_status("failed", error, self._worker.printed())
        self._worker.close()
        return RunEnd(error)


def is_finished(files: RunFolder) -> bool:
    """Return whether a run is finished; one whose files are damaged is not."""
    try:
        return files.finished
    except (DamagedFile, OSError):
        return False


def carry_through(
    order: Order, cores: Sequence[int], environment: Mapping[str, str], say: Callable[[str], None]
) -> RunEnd:
    """Carry an order through, and return how it ended; warnings are said."""
    supervised = Supervised(order, cores, environment)
    try:
        while (end := supervised.poll()) is None:
            time.sleep(POLL_SECONDS)
            for warning in supervised.warnings:
                say(warning)
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
        return (
            f"worker ended with exit code {code} before its run was finished: the task, or a "
            "library, ended the process (os._exit)"
        )
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
