"""An external training from an empty folder to its end: called, listened to, written down."""

from __future__ import annotations

import contextlib
import itertools
import json
import operator
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from kanbatsu.envs.spec import refuse_own_code
from kanbatsu.files.store import RunFolder
from kanbatsu.machine import peak_resident_bytes
from kanbatsu.report.gather import FULL, NETWORKS, checked_networks
from kanbatsu.report.logs import Log, log_files
from kanbatsu.run.external import arguments
from kanbatsu.run.record import Run
from kanbatsu.run.signature import find_function, read_parameters

FOLDER = "training"
"""Folder inside a run's own that the training may write to; empty when it begins."""

LOOK_SECONDS = 2.0
"""Seconds between two looks at whether a silent training has written something."""


class TrainingFault(RuntimeError):
    """A training function that does not do what it should; the message says what."""


def carry_external(run: Run, files: RunFolder, on_progress: Callable[[int], None]) -> None:
    """Call a training function and write down what comes of it; from the start, always.

    Args:
        run: Record with an `ExternalConfig`.
        files: Folder of the run.
        on_progress: Called with the env steps done.

    Raises:
        Exception: Whatever the function raises.
        TrainingFault: It ended too early, or gave something that is no result.
    """
    config: Any = run.config
    refuse_own_code(config.function)
    files.truncate(dict.fromkeys(files.sizes(), 0))
    folder = files.path / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    course = Course(run, files, on_progress)
    function = find_function(config.function)
    given = {"arm": config.arm, "task": run.task, "seed": run.seed}
    given |= {"env_steps": run.env_steps, "folder": folder}
    with _watched(folder, course.moves):
        made = function(**arguments(config, given, read_parameters(function)))
        if made is None:
            course.write_log(folder)
        elif not isinstance(made, Iterable):
            raise TrainingFault(
                f"{config.function} returned {type(made).__name__}: let it yield pairs of env "
                "steps and return, or leave monitor.csv in its folder and return nothing"
            )
        else:
            for item in made:
                course.write(item)
    course.finish(folder)


@contextlib.contextmanager
def _watched(folder: Path, moves: Callable[[], None]) -> Iterator[None]:
    """Say that a training moves as long as its folder grows, for it may say nothing itself."""
    ended = threading.Event()

    def look() -> None:
        before = 0
        while not ended.wait(LOOK_SECONDS):
            with contextlib.suppress(OSError):  # a file may be gone meanwhile
                now = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
                if now != before:
                    before = now
                    moves()

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


class Course:
    """Results of a training as they come.

    Args:
        run: Record of the run.
        files: Folder of the run.
        on_progress: Called with the env steps done.
    """

    def __init__(self, run: Run, files: RunFolder, on_progress: Callable[[int], None]) -> None:
        self._run, self._files, self._on_progress = run, files, on_progress
        self._began = time.perf_counter()
        self._at = -1

    def moves(self) -> None:
        """Say that the training goes on."""
        self._on_progress(max(self._at, 0))

    def write(self, item: Any) -> None:
        """Write down a moment of the training.

        Args:
            item: Env steps, and the return or the returns of several episodes.

        Raises:
            TrainingFault: It is something else, or goes back in time.
        """
        env_steps, returns = _read(item)
        if env_steps <= self._at:
            raise TrainingFault(
                f"the training went from {self._at:,} env steps back to {env_steps:,}: env steps "
                "must rise"
            )
        self._at = env_steps
        self._append(env_steps, returns)
        self._time()
        self.moves()

    def write_log(self, folder: Path) -> None:
        """Write down what a training has left in its folder.

        Raises:
            TrainingFault: There is no log in it.
        """
        kinds = log_files(folder).kinds
        log = next((log for read in kinds.values() if (log := read()) is not None), None)
        if log is None:
            raise TrainingFault(
                "the training yielded nothing and left no log: let it yield pairs of env steps "
                f"and return, or leave monitor.csv, evaluations.npz or event files in {folder}"
            )
        for point in log.until(self._run.env_steps):
            self._at = point.env_steps
            self._append(point.env_steps, point.returns)
        if self._at < self._run.env_steps and _is_whole(log, self._run.env_steps):
            self._at = self._run.env_steps
            self._append(self._at, log.points[-1].returns)
        self._time()

    def finish(self, folder: Path) -> None:
        """Write down the networks' weights, if they are known; refuse a run that ended too early.

        Raises:
            TrainingFault: The training ended too early.
        """
        if self._at < self._run.env_steps:
            raise TrainingFault(
                f"the training ended at {max(self._at, 0):,} of {self._run.env_steps:,} env steps: "
                "its last result must be at the end"
            )
        path = folder / NETWORKS
        if path.exists():
            try:
                networks = checked_networks(json.loads(path.read_text(encoding="utf-8")))
            except ValueError as error:
                raise TrainingFault(f"{path}: {error}") from None
            line = {"kind": "networks", "env_steps": self._at, "networks": networks}
            self._files.append(line)

    def _append(self, env_steps: int, returns: Sequence[float]) -> None:
        mean = sum(returns) / len(returns)
        line = {"kind": "evaluation", "env_steps": env_steps}
        self._files.append({**line, "returns": list(returns), "mean_return": mean})

    def _time(self) -> None:
        self._files.append_timing(
            {
                "env_steps": self._at,
                "seconds": time.perf_counter() - self._began,
                "peak_resident_bytes": peak_resident_bytes(),
            }
        )


def _is_whole(log: Log, env_steps: int) -> bool:
    """Whether a log ends where the training did: its last episode may have been cut off."""
    ends = [0, *(point.env_steps for point in log.points)]
    longest = max(later - earlier for earlier, later in itertools.pairwise(ends))
    tail = env_steps - log.env_steps
    return log.env_steps >= FULL * env_steps or (log.training and tail <= longest)


def _read(item: Any) -> tuple[int, list[float]]:
    """Read what a training yields.

    Example:
        >>> _read((100, 3)), _read((100, [1.0, 2.0]))
        ((100, [3.0]), (100, [1.0, 2.0]))
    """
    try:
        env_steps, value = item
        at = operator.index(env_steps)
        returns = [float(each) for each in (value if isinstance(value, Iterable) else [value])]
        if at >= 0 and returns and not isinstance(value, str):
            return at, returns
    except (TypeError, ValueError):
        pass
    raise TrainingFault(
        f"the training yielded {item!r}: let it yield pairs of env steps, a whole number, and the "
        "return, or the returns of several episodes"
    )
