"""The engine: every run of a study in a process of its own, until nothing is missing."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from kanbatsu.machine import usable_cores
from kanbatsu.study.claim import StudyError, claim, lock
from kanbatsu.study.plan import PlannedRun, Study, study_record
from kanbatsu.study.progress import Display, LatestReturn, RunView, Speed, View, make_display
from kanbatsu.study.record import to_dict
from kanbatsu.study.store import StudyFolder
from kanbatsu.study.worker import Worker, shares

POLL_SECONDS = 0.2
"""Between two looks at the workers."""


def run_study(
    study: Study,
    out: Path,
    workers: int,
    command: str,
    display: Display | None = None,
) -> bool:
    """Carry out what is missing of a study; a run that fails is stored, and the others go on.

    Runs that failed or were stopped in an earlier call continue from their last checkpoint. A study
    may grow in its folder, by arms, tasks or seeds.

    Args:
        study: Checked by `kanbatsu.study.plan.check_study`.
        out: The study's folder; made where there is none.
        workers: Runs at the same time; the cores are divided among them.
        command: What a user types to get the study again; stored with it.
        display: Where progress goes; standard output by default.

    Returns:
        Whether every run is finished.

    Raises:
        StudyError: The folder holds a different study, or another engine works in it.
        KeyboardInterrupt: After the workers were stopped; the same call continues.
    """
    if workers < 1:
        raise StudyError(f"workers must be at least 1, not {workers}")
    folder = StudyFolder(out)
    with lock(out) as held:
        claim(folder, study_record(study, command))
        with (
            display or make_display(Console()) as shown,
            tempfile.TemporaryDirectory(prefix="kanbatsu-") as compiled,
        ):
            return _Engine(study, folder, workers, held, shown, _environment(compiled)).run()


@dataclass
class _Running:
    """A run and the process that works on it."""

    planned: PlannedRun
    worker: Worker
    slot: int
    latest: LatestReturn
    began_at: int | None = None
    """Env steps that it had done when it began, from its checkpoint."""


@dataclass
class _Engine:
    """The state of one call of `run_study`."""

    study: Study
    folder: StudyFolder
    workers: int
    lock: int
    display: Display
    environment: Mapping[str, str]
    finished: int = 0
    failed: int = 0
    running: list[_Running] = field(default_factory=list)
    done_before: int = 0
    """Env steps done in this session by runs that have ended."""
    speed: Speed = field(default_factory=Speed)

    def run(self) -> bool:
        """Start, watch and store, until nothing is left to start."""
        runs = self.study.runs()
        try:
            waiting = deque(run for run in runs if not self.folder.run_folder(run.run_id).finished)
        except ValueError as error:  # a damaged file; the message says which
            raise StudyError(str(error)) from error
        self.finished = len(runs) - len(waiting)
        # Of all runs, not of those that are missing: numerical libraries round differently on
        # another number of threads, and a run that continues is to end as if it had not stopped.
        cores = shares(usable_cores(), min(self.workers, len(runs)))
        self._announce(len(waiting), cores)
        free = list(range(len(cores)))
        try:
            while waiting or self.running:
                while waiting and free:
                    slot = free.pop(0)
                    self._start(waiting.popleft(), slot, cores[slot])
                time.sleep(POLL_SECONDS)
                free += [run.slot for run in tuple(self.running) if self._has_ended(run)]
                self.display.show(self._view(len(waiting)))
        except KeyboardInterrupt:
            self.display.say("Stopping the workers ...")
            raise
        finally:
            for run in self.running:
                run.worker.terminate()
            for run in self.running:
                run.worker.wait()
        return self.failed == 0

    def _announce(self, waiting: int, cores: list[list[int]]) -> None:
        study = self.study
        parts = [(len(study.arms), "arm"), (len(study.tasks), "task"), (len(study.seeds), "seed")]
        product = " x ".join(f"{count} {noun}{'s' * (count != 1)}" for count, noun in parts)
        self.display.say(study.question)
        size = f"{product} of {study.env_steps:,} env steps, in {self.folder.path}"
        if not waiting:
            self.display.say(f"{size}: all {self.finished} runs are finished already.")
            return
        each = len(cores[0])
        self.display.say(
            f"{size}: {waiting} to do, {self.finished} finished already; "
            f"{len(cores)} at a time, on {each} core{'s' * (each != 1)} each."
        )

    def _start(self, planned: PlannedRun, slot: int, cores: list[int]) -> None:
        path = self.folder.run_folder(planned.run_id).path
        worker = Worker(to_dict(planned.run), path, cores, self.environment, inherit=[self.lock])
        self.running.append(_Running(planned, worker, slot, LatestReturn(path)))

    def _has_ended(self, run: _Running) -> bool:
        """Look at a worker; where it has ended, store a failure that it could not store itself."""
        code = run.worker.poll()
        run_id = run.planned.run_id
        for warning in run.worker.warnings:
            self.display.say(f"{run_id}: {warning}")
        run.worker.warnings.clear()
        if run.began_at is None:
            run.began_at = run.worker.env_steps
        if code is None:
            return False
        files = self.folder.run_folder(run_id)
        if code == 0 and files.finished:
            self.finished += 1
            value = run.latest.update()
            returned = "" if value is None else f", return {value:.1f}"
            self.display.say(f"finished  {run_id}{returned}")
        else:
            self.failed += 1
            error = run.worker.error
            if error is None:
                error = _how_it_ended(code)
                with contextlib.suppress(OSError):  # a full disk must not stop the other runs
                    files.write_status("failed", error, run.worker.printed())
            self.display.say(f"FAILED    {run_id}: {error}\n          more in {files.path}")
        self.done_before += _done(run)
        run.worker.close()
        self.running.remove(run)
        return True

    def _view(self, waiting: int) -> View:
        each = self.study.env_steps
        runs = waiting + len(self.running) + self.finished + self.failed
        speed = self.speed.measure(
            time.monotonic(), self.done_before + sum(_done(run) for run in self.running)
        )
        reached = [min(run.worker.env_steps or 0, each) for run in self.running]
        left = each * (waiting + len(reached)) - sum(reached)
        return View(
            runs=runs,
            finished=self.finished,
            failed=self.failed,
            env_steps=each,
            share=1.0 - left / (each * runs),
            env_steps_per_second=speed,
            seconds_left=left / speed if speed else None,
            running=tuple(
                RunView(run.planned.run_id, done, run.latest.update())
                for run, done in zip(self.running, reached, strict=True)
            ),
        )


def _done(run: _Running) -> int:
    """Env steps that a run did in this session."""
    return (run.worker.env_steps or 0) - (run.began_at or 0)


def _how_it_ended(code: int) -> str:
    """Say how a worker ended that could not say it itself.

    Example:
        >>> _how_it_ended(-11)
        'worker was killed by signal 11 (SIGSEGV)'
    """
    if code >= 0:
        return f"worker ended with exit code {code} before its run was finished"
    text = f"worker was killed by signal {-code} ({signal.Signals(-code).name})"
    if code == -signal.SIGKILL:
        text += "; if memory ran out, use fewer --workers or a smaller train.replay_capacity"
    return text


def _environment(compiled: str) -> dict[str, str]:
    """Return the variables of the workers; what the user has set stays.

    Args:
        compiled: A folder for compiled programs: the seeds of an arm need not compile again, which
            takes most of the time of a short run. It belongs to this call alone, so that no program
            outlives the library, or leaves the machine, that it was compiled for.
    """
    return {
        "JAX_COMPILATION_CACHE_DIR": compiled,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
        # Several workers may share one accelerator, of which the first would take three quarters.
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        **os.environ,
    }
