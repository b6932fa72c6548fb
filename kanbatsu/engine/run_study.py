"""The engine: it hands over every run that is missing of a study, until nothing is.

Where runs go is a `Place`; what happens to one of them is `kanbatsu.engine.supervise`.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from kanbatsu.engine.claim import claim
from kanbatsu.engine.glance import Glance
from kanbatsu.engine.local_place import LocalPlace
from kanbatsu.engine.place import Job, Place, PlaceConfig
from kanbatsu.engine.populations import Population, order_of, run_populations
from kanbatsu.engine.progress import Display, make_display
from kanbatsu.engine.supervise import POLL_SECONDS, is_finished
from kanbatsu.engine.track import Tracker, TrackerName, require
from kanbatsu.files.lock import StudyError, lock
from kanbatsu.files.store import StudyFolder
from kanbatsu.machine import usable_cores
from kanbatsu.study.plan import PlannedRun, Study, study_record

TRACK_SECONDS = 5.0
"""Seconds between two times that results are sent to a tracker."""


def run_study(
    study: Study,
    out: Path,
    config: PlaceConfig,
    command: str,
    display: Display | None = None,
    tracker: TrackerName | None = None,
    population: Population | None = None,
) -> bool:
    """Carry out what is missing of a study; a run that fails is stored, and the others go on.

    Runs that failed or were stopped in an earlier call continue from their last checkpoint. A study
    may grow in its folder, by arms, tasks or seeds.

    Args:
        study: Checked by `kanbatsu.study.plan.check_study`.
        out: The study's folder; made where there is none. All machines that carry out runs must
            see it under the same path.
        config: Where the runs go.
        command: What a user types to get the study again; stored with it.
        display: Where progress goes; standard output by default.
        tracker: Where results are sent to as they grow, beside the study's own files.
        population: Which runs are trained side by side on this machine, before those that are left
            go to the place; none by default.

    Returns:
        Whether every run is finished.

    Raises:
        StudyError: The folder holds a different study, or another engine works in it, or the place
            cannot be had.
        DamagedFile: The study's own record, or its archive, is not what was written.
        KeyboardInterrupt: After the runs were stopped; the same call continues.
    """
    refuse(config, tracker)
    folder = StudyFolder(out)
    sent = Tracker(tracker, folder, [run.run_id for run in study.runs()])
    with lock(out), display or make_display() as shown, sent:
        claim(folder, study_record(study, command))
        shown.say(study.question)
        if population is not None:
            run_populations(study, folder, shown.say, population, config.run_timeout)
        runs = [(run, folder.run_folder(run.run_id)) for run in study.runs()]
        missing = [run for run, files in runs if not is_finished(files)]
        if not missing:
            shown.say(f"{_size(study, folder)}: all {len(study.runs())} runs are finished.")
            return True
        with _place(config, study, folder) as place:
            done = len(study.runs()) - len(missing)
            shown.say(
                f"{_size(study, folder)}: {len(missing)} to do, {done} finished already; "
                f"{place.describe()}."
            )
            return _Engine(study, folder, config, place, shown, sent, deque(missing)).run()


def _size(study: Study, folder: StudyFolder) -> str:
    parts = [(len(study.arms), "arm"), (len(study.tasks), "task"), (len(study.seeds), "seed")]
    product = " x ".join(f"{count} {noun}{'s' * (count != 1)}" for count, noun in parts)
    return f"{product} of {study.env_steps:,} env steps, in {folder.path}"


@contextmanager
def _place(config: PlaceConfig, study: Study, folder: StudyFolder) -> Iterator[Place]:
    """Make ready where runs go; at the end nothing of this study is left running there."""
    place: Place
    if config.engine == "ray":
        from kanbatsu.engine.ray_place import RayPlace

        place = RayPlace(config, folder)
    elif config.engine == "slurm":
        from kanbatsu.engine.slurm_place import SlurmPlace

        place = SlurmPlace(config, folder)
    else:
        # Of all runs, not of those that are missing: numerical libraries round differently on
        # another number of threads, and a run that continues is to end as if it had not stopped.
        workers = len(usable_cores()) if config.workers is None else config.workers
        place = LocalPlace(min(workers, len(study.runs())))
    try:
        yield place
    finally:
        place.stop()


def refuse(config: PlaceConfig, tracker: TrackerName | None = None) -> None:
    """Refuse numbers with which nothing could work, and a tracker that is not installed.

    Raises:
        StudyError: One line per mistake.
    """
    require(tracker)
    lowest = {"workers": 1, "cpus": 1, "gpus": 0, "retries": 0}
    given = {name: getattr(config, name) for name in lowest}
    problems = [
        f"{name} must be at least {lowest[name]}, not {value}"
        for name, value in given.items()
        if value is not None and value < lowest[name]
    ]
    problems += [
        f"{name.replace('_', '-')} must be greater than 0, not {value:g}"
        for name in ("run_timeout", "memory")
        if (value := getattr(config, name)) is not None and value <= 0
    ]
    if problems:
        raise StudyError("\n".join(problems))


@dataclass
class _Engine:
    """The state of one call of `run_study`."""

    study: Study
    folder: StudyFolder
    config: PlaceConfig
    place: Place
    display: Display
    tracker: Tracker
    waiting: deque[PlannedRun]
    """Runs that were not handed over yet."""
    running: dict[str, Job] = field(default_factory=dict)
    """Runs that have been handed over, by run id."""

    def run(self) -> bool:
        """Hand over, watch and tell, until nothing is left."""
        self.glance = Glance(
            self.folder,
            {run.run_id: run.run.env_steps for run in self.study.runs()},
            missing={run.run_id for run in self.waiting},
        )
        try:
            while self.waiting or self.running:
                if room := min(self.place.room(), len(self.waiting)):
                    self._start([self.waiting.popleft() for _ in range(room)])
                time.sleep(POLL_SECONDS)
                for run_id in tuple(self.running):
                    self._look_at(run_id)
                self.display.show(self.glance.view(self.running))
                self.tracker.update(every_seconds=TRACK_SECONDS)
        except KeyboardInterrupt:
            self.display.say("Stopping the workers ...")
            raise
        return not self.glance.failed

    def _start(self, runs: list[PlannedRun]) -> None:
        retries, timeout = self.config.retries, self.config.run_timeout
        orders = [order_of(self.folder, [planned], retries, timeout) for planned in runs]
        jobs = self.place.start(orders)
        self.running |= {run.run_id: job for run, job in zip(runs, jobs, strict=True)}

    def _look_at(self, run_id: str) -> None:
        """Say what is new of a run; let go of it where it has ended."""
        job = self.running[run_id]
        end = job.poll()
        for warning in job.warnings:
            self.display.say(f"{run_id}: {warning}")
        job.warnings.clear()
        if end is None:
            return
        del self.running[run_id]
        if end.error is None:
            self.glance.finished.add(run_id)
            value = self.glance.tail(run_id).latest_return
            returned = "" if value is None else f", return {value:.1f}"
            self.display.say(f"finished  {run_id}{returned}")
        else:
            self.glance.failed.add(run_id)
            path = self.folder.run_folder(run_id).path
            self.display.say(f"FAILED    {run_id}: {end.error}\n          more in {path}")
