"""One run in a process of its own: what the engine starts, and what runs there.

The two talk in JSON lines: an order on the worker's standard input, and progress, warnings and the
last error on its standard output. Whatever the run itself prints goes to a file of the engine's.
What lies between the two and a study is `kanbatsu.engine.supervise`.
"""

from __future__ import annotations

import contextlib
import faulthandler
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

REPORT_SECONDS = 0.2
"""Seconds between two messages of a worker, so that reporting costs it nothing."""

TAIL_BYTES = 8_000
"""Bytes of what a worker printed last that are kept with its failure."""

PREPARING = (
    "<frozen importlib._bootstrap>",
    "jax/_src/interpreters/partial_eval.py",
    "jax/_src/interpreters/mlir.py",
    "jax/_src/compiler.py",
)
"""Files that are at work while a module is imported, or a program traced, lowered and compiled."""

PREPARING_SECONDS = 0.5
"""Seconds between two looks at whether a run is preparing."""

CONFESS = signal.SIGUSR1
"""Makes a worker print where each of its threads is, also one that hangs outside of Python."""


class Worker:
    """Another process with a run, or with several side by side.

    Args:
        runs: `Run` records as nested dicts, by the folder of each.
        cores: Cores that the process may use; its libraries size their thread pools by them.
        environment: Variables of the process.
        cwd: The folder that it stands in; the caller's own by default.
    """

    def __init__(
        self,
        runs: Mapping[Path, Mapping[str, Any]],
        cores: Sequence[int],
        environment: Mapping[str, str],
        cwd: Path | None = None,
    ) -> None:
        self.messages = 0
        """Number of messages of the worker; it grows as long as the run moves."""
        self.begun = False
        """True once the worker has imported all that it needs."""
        self.env_steps: int | None = None
        """Env steps that are done; None before the worker's first message."""
        self.error: str | None = None
        """Why a run failed, where it could still say and store so itself."""
        self.warnings: list[str] = []
        """Warnings that nobody was shown yet."""
        self._printed: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - `close` closes it
        self._line = b""
        with _only(cores):
            self._process = subprocess.Popen(
                # -P: the folder that the user stands in must not hide installed modules.
                [sys.executable, "-P", "-m", "kanbatsu.engine.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._printed,
                env={**environment, **_thread_limits(cores)},
                cwd=cwd,
                # Ctrl-C is for the engine, which stops its workers itself.
                start_new_session=True,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._orders, self._reports = self._process.stdin, self._process.stdout
        os.set_blocking(self._reports.fileno(), False)
        order = json.dumps({str(folder.resolve()): run for folder, run in runs.items()})
        with contextlib.suppress(BrokenPipeError):  # it died at once; `poll` will tell
            # The pipe stays open: its end tells the worker that the engine is gone.
            self._orders.write(order.encode() + b"\n")
            self._orders.flush()

    def poll(self) -> int | None:
        """Take in what the worker reported; return its exit code once it has ended."""
        code = self._process.poll()
        self._line += self._reports.read() or b""
        *lines, self._line = self._line.split(b"\n")
        self.messages += len(lines)
        for line in lines:
            message = json.loads(line)
            self.begun = self.begun or "begun" in message
            self.env_steps = message.get("env_steps", self.env_steps)
            self.error = message.get("error", self.error)
            self.warnings += [message["warning"]] if "warning" in message else []
        return code

    def printed(self) -> str:
        """Return the end of what the worker printed."""
        size = self._printed.seek(0, os.SEEK_END)
        self._printed.seek(max(0, size - TAIL_BYTES))
        return self._printed.read().decode(errors="replace")

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def kill(self, patience_seconds: float = 1.0) -> None:
        """End a process that hangs, after it has printed where."""
        self._process.send_signal(CONFESS)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(patience_seconds)
        self._process.kill()
        self._process.wait()

    def terminate(self) -> None:
        """Ask the process to end; its run continues from the last checkpoint another time."""
        self._process.terminate()

    def wait(self, patience_seconds: float = 5.0) -> None:
        """Wait for the end of a process that was asked to end, and make it end if it does not."""
        try:
            self._process.wait(patience_seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self.close()

    def hang_up(self) -> None:
        """Close the line to the process, as the engine's own end would; the process then ends."""
        with contextlib.suppress(BrokenPipeError):
            self._orders.close()

    def close(self) -> None:
        """Let go of the pipes of a process that has ended."""
        self.hang_up()
        self._reports.close()
        self._printed.close()


def shares(cores: Sequence[int], workers: int) -> list[list[int]]:
    """Divide cores among workers, as evenly as they go; workers beyond the cores share them.

    Example:
        >>> shares([0, 1, 2, 3, 4], workers=2)
        [[0, 1, 2], [3, 4]]
        >>> shares([0, 1], workers=3)
        [[0], [1], [0]]
    """
    if workers >= len(cores):
        return [[cores[slot % len(cores)]] for slot in range(workers)]
    bounds = [-(-slot * len(cores) // workers) for slot in range(workers + 1)]
    return [list(cores[a:b]) for a, b in itertools.pairwise(bounds)]


@contextlib.contextmanager
def _only(cores: Sequence[int]) -> Iterator[None]:
    """Narrow this thread to `cores` for a moment: a process started in it inherits them.

    So the limit holds before the child's first instruction, and numpy, XLA and MuJoCo, which count
    the cores that they may use, make their pools no larger.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _thread_limits(cores: Sequence[int]) -> dict[str, str]:
    """Return the variables that do what `_only` does, where a process cannot be bound to cores."""
    if hasattr(os, "sched_setaffinity"):
        return {}
    return dict.fromkeys(("NPROC", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(len(cores)))


def main() -> int:
    """Carry out the order that comes on standard input."""
    faulthandler.enable()
    faulthandler.register(CONFESS)
    reports = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what the run prints is no report
    order = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_the_engine, daemon=True).start()
    writing = threading.Lock()

    def tell(**message: Any) -> None:
        with writing:
            reports.write(json.dumps(message) + "\n")

    threading.Thread(target=_tell_of_preparing, args=[tell], daemon=True).start()

    # Here and not above: the engine needs this module, but none of what a run needs.
    from kanbatsu.files.lock import own
    from kanbatsu.run.carry import run_side_by_side
    from kanbatsu.run.record import run_from_dict

    tell(begun=True)
    last = 0.0

    def on_progress(env_steps: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= REPORT_SECONDS:
            last = now
            tell(env_steps=env_steps)

    warnings.showwarning = lambda message, *where, **more: tell(warning=str(message))
    runs, folders = [run_from_dict(run) for run in order.values()], [Path(name) for name in order]
    try:
        with contextlib.ExitStack() as owned:
            for folder in folders:
                owned.enter_context(own(folder, on_wait=lambda: tell(waiting=True)))
            for error in filter(None, run_side_by_side(runs, folders, on_progress)):
                raise error
    except Exception as error:  # where it is a run's, it is stored in the run's folder
        tell(error=f"{type(error).__name__}: {error}")
        raise
    return 0


def _tell_of_preparing(tell: Callable[..., None]) -> None:
    """Tell again and again that the run is alive while it imports, traces or compiles."""
    main_thread = threading.main_thread().ident
    while True:
        time.sleep(PREPARING_SECONDS)
        if main_thread is not None and is_preparing(main_thread):
            tell(preparing=True)


def is_preparing(thread: int) -> bool:
    """Return whether a thread of this process imports, traces, lowers or compiles right now."""
    # In C and in one piece: walking `sys._current_frames` of a thread that runs on crashes it.
    with tempfile.TemporaryFile() as file:
        faulthandler.dump_traceback(file)
        file.seek(0)
        stacks = file.read().decode(errors="replace").split("\n\n")
    mine = [stack for stack in stacks if f"hread 0x{thread:016x} " in stack]
    return any(f'{name}", line' in stack for stack in mine for name in PREPARING)


def _end_with_the_engine() -> None:
    """Wait for the end of standard input, which comes when the engine dies, and die too."""
    os.read(0, 1)  # not sys.stdin: its lock, held by this thread, would spoil a normal exit
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
