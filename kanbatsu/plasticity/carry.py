"""A study of the bench from its file to its report: what is missing is trained, group by group."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from kanbatsu.engine.worker import shares
from kanbatsu.files.lock import StudyError, is_owned, own
from kanbatsu.files.store import RunFolder, StudyFolder
from kanbatsu.files.tables import canonical_hash, to_dict
from kanbatsu.machine import usable_cores
from kanbatsu.plasticity.bench import Bench
from kanbatsu.plasticity.config import LabelRun, label_run_from_dict
from kanbatsu.plasticity.train import train_side_by_side
from kanbatsu.report.page import write_report

Say = Callable[[str], None]


def carry_out(
    bench: Bench,
    out: Path | str,
    *,
    workers: int = 1,
    command: str = "",
    lang: Literal["en", "ja"] = "en",
    say: Say = print,
) -> Path:
    """Train what is missing of a study of the bench, and write its report.

    Args:
        bench: As `load_bench` returns it.
        out: The study's folder; made where there is none.
        workers: Processes that share the groups and the cores; one is this process.
        command: What a user types to get the study again; stored with it.
        lang: Language of the report.
        say: Called with lines of progress.

    Returns:
        The report. Runs that are missing in it, as those of a worker that died, are left to the
        next call.

    Raises:
        StudyError: The folder holds another study.
    """
    folder = StudyFolder(Path(out))
    record = study_record(bench, command)
    if folder.holds_study and folder.read_study()["hash"] != record["hash"]:
        raise StudyError(f"{out} holds another study: name another folder with --out")
    folder.write_study(record)
    for group in bench.groups():
        for planned in group:
            run = folder.run_folder(planned.run_id)
            if run.archived is None and not (run.path / "config.json").exists():
                run.write_config(to_dict(planned.run))
    if workers == 1:
        work(Path(out), say)
    else:
        cores = [",".join(map(str, each)) for each in shares(usable_cores(), workers)]
        start = [sys.executable, "-P", "-m", "kanbatsu.plasticity", os.fspath(out)]
        with contextlib.ExitStack() as stack:
            for each in cores:
                stack.enter_context(subprocess.Popen([*start, each]))
    return write_report(folder.path, lang)


def work(out: Path, say: Say = print, on_task: Callable[[int], None] = lambda task: None) -> None:
    """Train the groups of a folder that are not finished, and that no other process works on.

    A group that was stopped is trained from its start, so that it ends with the same bytes.

    Args:
        out: A study's folder, written by `carry_out`.
        say: Called with a line when a group has ended.
        on_task: Called with the number of tasks done, after each task of each group.
    """
    folder = StudyFolder(out)
    study = folder.read_study()
    for task in study["tasks"]:
        for name, arm in study["arms"].items():
            runs = [folder.run_folder(run_id) for run_id in arm["runs"][task].values()]
            if all(run.finished for run in runs) or is_owned(runs[0].path):
                continue
            with own(runs[0].path):
                if not all(run.finished for run in runs):  # by whoever let go of it just now
                    started = time.perf_counter()
                    _train(runs, on_task)
                    seconds = time.perf_counter() - started
                    say(f"{name} on {task}: {len(runs)} seeds in {seconds:.1f} s")


def missing(out: Path) -> int:
    """Return how many runs of a folder are not finished."""
    folder = StudyFolder(out)
    ids = [
        run_id
        for arm in folder.read_study()["arms"].values()
        for runs in arm["runs"].values()
        for run_id in runs.values()
    ]
    return sum(not folder.run_folder(run_id).finished for run_id in ids)


def _train(folders: list[RunFolder], on_task: Callable[[int], None]) -> None:
    """Train the runs of a group from their records alone."""
    runs = [label_run_from_dict(folder.read_config()) for folder in folders]
    train_side_by_side(runs, [RunFolder(folder.path) for folder in folders], on_task)


def study_record(bench: Bench, command: str) -> dict[str, Any]:
    """Return what `study.json` holds, as that of any study.

    Args:
        bench: The study.
        command: What a user types to get it again.
    """
    runs: dict[str, dict[str, dict[str, str]]] = {}
    for group in bench.groups():
        ids = {str(planned.run.seed): planned.run_id for planned in group}
        runs.setdefault(group[0].arm, {})[group[0].run.task] = ids
    arms: Mapping[str, dict[str, Any]] = {
        name: {
            "agent": LabelRun.agent,
            "config": {"classifier": to_dict(arm.classifier)},
            "train": to_dict(bench.stream),
        }
        | ({"match": to_dict(arm.match)} if arm.match else {})
        | ({"remedy": [to_dict(remedy) for remedy in arm.remedy]} if arm.remedy else {})
        for name, arm in bench.arms.items()
    }
    decides = {
        "tasks": list(bench.tasks()),
        "seeds": list(bench.seeds),
        "env_steps": bench.stream.length,
        "arms": arms,
    }
    return decides | {
        "question": bench.question,
        "note": bench.note,
        "agent": LabelRun.agent,
        "control": bench.control,
        "decision": None if bench.decision is None else to_dict(bench.decision),
        "command": command,
        "hash": canonical_hash(decides)[:16],
        "arms": {name: arm | {"runs": runs[name]} for name, arm in arms.items()},
    }
