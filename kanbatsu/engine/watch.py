"""A study, watched from outside: whoever trains it, wherever, its files say how far it is."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from kanbatsu.engine.glance import Glance
from kanbatsu.engine.progress import Display, make_display
from kanbatsu.engine.track import TrackerName, make_tracker
from kanbatsu.files.lock import StudyError, is_owned
from kanbatsu.files.store import StudyFolder, ends_at


@dataclass(frozen=True)
class WatchArguments:
    """Show how far a study is: runs by state, speed, time left, returns, warnings of probes."""

    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
    """What kanbatsu study or kanbatsu train has as --out."""
    every: float = 2.0
    """Seconds between two looks."""
    once: bool = False
    """Look once, and leave."""
    tracker: TrackerName | None = None
    """Send the results to tensorboard or wandb as they grow."""


def watch(arguments: WatchArguments, display: Display | None = None) -> None:
    """Show a study until every run is finished or failed, or nobody works on it.

    Raises:
        OSError: The folder holds no study.
        DamagedFile: One of its files is not what was written.
        StudyError: The tracker is not installed, or `every` is not greater than 0.
    """
    if arguments.every <= 0:
        raise StudyError(f"every must be greater than 0 seconds, not {arguments.every:g}")
    folder = StudyFolder(arguments.out)
    study = folder.read_study()
    runs = {
        run_id: ends_at(study, arm, task)
        for arm in study["arms"].values()
        for task, by_seed in arm["runs"].items()
        for run_id in by_seed.values()
    }
    tracker = make_tracker(arguments.tracker, folder, runs)
    states = {run_id: state_of(folder, run_id) for run_id in runs}
    glance = Glance(
        folder, runs, missing={run_id for run_id in runs if states[run_id] != "finished"}
    )
    with display or make_display(Console()) as shown, tracker:
        shown.say(study["question"])
        while True:
            for run_id in runs:
                if run_id not in glance.finished:
                    states[run_id] = state_of(folder, run_id)
            glance.finished = {run_id for run_id in runs if states[run_id] == "finished"}
            glance.failed = {run_id for run_id in runs if states[run_id] == "failed"}
            running = [run_id for run_id in runs if states[run_id] == "running"]
            count = Counter(states.values())
            view = glance.view(running, stopped=count["stopped"], waiting=count["waiting"])
            shown.show(view)
            tracker.update()
            over = len(glance.finished | glance.failed) == len(runs)
            if over or arguments.once or not (running or is_owned(folder.path)):
                break
            time.sleep(arguments.every)
        for run_id in sorted(glance.failed):
            error = (folder.run_folder(run_id).read_status() or {}).get("error")
            shown.say(f"FAILED    {run_id}: {error}")
        shown.say(", ".join(f"{count[state]} {state}" for state in STATES if count[state]))


STATES = ("finished", "failed", "running", "stopped", "waiting")
"""Of a run. `stopped`: begun, but no process works on it."""


def state_of(folder: StudyFolder, run_id: str) -> str:
    """Return the state of a run, from its files alone."""
    files = folder.run_folder(run_id)
    try:
        status = files.read_status()
    except json.JSONDecodeError:
        status = None
    if status is None:
        return "running" if is_owned(files.path) else "waiting"
    if status["state"] == "finished" and files.finished:
        return "finished"
    if is_owned(files.path):
        return "running"
    return "failed" if status["state"] == "failed" else "stopped"
