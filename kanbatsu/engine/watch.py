"""A study, watched from outside: whoever trains it, wherever, its files say how far it is."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

from kanbatsu.engine.glance import Glance
from kanbatsu.engine.progress import Display, make_display
from kanbatsu.engine.track import Tracker, TrackerName
from kanbatsu.files.disk import DamagedFile
from kanbatsu.files.lock import StudyError, is_owned
from kanbatsu.files.shape import ends_at
from kanbatsu.files.store import RunFolder, StudyFolder


def watch(
    out: Path,
    every: float = 2.0,
    once: bool = False,
    tracker: TrackerName | None = None,
    display: Display | None = None,
) -> None:
    """Show a study until every run is finished or failed, or nobody works on it.

    Args:
        out: The study's folder.
        every: Seconds between two looks.
        once: Look once, and return.
        tracker: Where results are sent to as they grow.
        display: Where progress goes; standard output by default.

    Raises:
        OSError: The folder holds no study.
        DamagedFile: One of its files is not what was written.
        StudyError: The tracker is not installed, or `every` is not greater than 0.
    """
    if every <= 0:
        raise StudyError(f"every must be greater than 0 seconds, not {every:g}")
    folder = StudyFolder(out)
    study = folder.read_study()
    runs = {
        run_id: ends_at(study, arm, task)
        for arm in study["arms"].values()
        for task, by_seed in arm["runs"].items()
        for run_id in by_seed.values()
    }
    sent = Tracker(tracker, folder, runs)
    states = {run_id: state_of(folder, run_id) for run_id in runs}
    glance = Glance(
        folder, runs, missing={run_id for run_id in runs if states[run_id] != "finished"}
    )
    with display or make_display() as shown, sent:
        shown.say(study["question"])
        while True:
            for run_id in runs.keys() - glance.finished:
                states[run_id] = state_of(folder, run_id)
            glance.finished = {run_id for run_id in runs if states[run_id] == "finished"}
            glance.failed = {run_id for run_id in runs if states[run_id] == "failed"}
            running = [run_id for run_id in runs if states[run_id] == "running"]
            count = Counter(states.values())
            view = glance.view(running, stopped=count["stopped"], waiting=count["waiting"])
            shown.show(view)
            sent.update()
            over = len(glance.finished | glance.failed) == len(runs)
            if over or once or not (running or is_owned(folder.path)):
                break
            time.sleep(every)
        for run_id in sorted(glance.failed):
            shown.say(f"FAILED    {run_id}: {_error_of(folder.run_folder(run_id))}")
        shown.say(", ".join(f"{count[state]} {state}" for state in STATES if count[state]))


STATES = ("finished", "failed", "running", "stopped", "waiting")
"""States of a run. A stopped one was begun, but no process works on it."""


def state_of(folder: StudyFolder, run_id: str) -> str:
    """Return the state of a run, from its files alone."""
    files = folder.run_folder(run_id)
    try:
        status, finished = files.read_status(), files.finished
    except (DamagedFile, OSError):
        return "running" if is_owned(files.path) else "failed"
    if status is None:
        return "running" if is_owned(files.path) else "waiting"
    if status["state"] == "finished" and finished:
        return "finished"
    if is_owned(files.path):
        return "running"
    return "failed" if status["state"] == "failed" else "stopped"


def _error_of(files: RunFolder) -> str | None:
    """Return why a run failed, or what is wrong with its files."""
    try:
        status, _ = files.read_status() or {}, files.finished
    except (DamagedFile, OSError) as error:
        return str(error)
    return status.get("error")
