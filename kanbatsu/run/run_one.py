"""One run, from an empty folder to a finished one.

A run is a function of its record alone. Everything that it did is in its folder, and a run that
was killed continues from its last checkpoint with the numbers that it would have had.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path

from kanbatsu.agents import STREAMING
from kanbatsu.files.store import RunFolder
from kanbatsu.files.tables import to_dict
from kanbatsu.machine import machine_facts
from kanbatsu.run import replay_run, stream_run
from kanbatsu.run.record import Run
from kanbatsu.run.resolve import record_of


def run_one(
    run: Run, folder: Path, on_progress: Callable[[int], None] = lambda env_steps: None
) -> None:
    """Train, evaluate and probe; continue from a checkpoint; return at once if finished.

    Args:
        run: what to do; `kanbatsu.run.check.check` refuses what cannot work.
        folder: the run's own; everything that it does is written there.
        on_progress: called with the env steps done, after every turn of the loop.

    Raises:
        Exception: whatever went wrong, after it was stored in the folder with its traceback.
    """
    files = RunFolder(folder)
    if not files.finished:
        run = record_of(run, files)
        files.write_config(to_dict(run))
        files.write_status("running")
        files.write_machine(machine_facts())
        try:
            work = stream_run if run.agent in STREAMING else replay_run
            work.train(run, files, on_progress)
        except Exception as error:
            files.write_status("failed", f"{type(error).__name__}: {error}", traceback.format_exc())
            raise
    files.write_status("finished")
