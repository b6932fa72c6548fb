"""A study carried out as populations: runs of one shape side by side in this process."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Literal

from kanbatsu.engine.claim import claim
from kanbatsu.files.lock import lock, own
from kanbatsu.files.store import StudyFolder
from kanbatsu.run.carry import fits, run_side_by_side, unpruned
from kanbatsu.study.plan import PlannedRun, Study, study_record


def run_populations(
    study: Study,
    out: Path,
    command: str,
    say: Callable[[str], None] = lambda line: None,
    by: Literal["shape", "arm"] = "shape",
) -> None:
    """Carry out a study as populations, one after the other, here.

    What is no population, and what failed, is left for `kanbatsu.engine.run_study.run_study`.

    Args:
        study: Checked by `kanbatsu.study.plan.check_study`.
        out: The study's folder; made where there is none.
        command: What a user types to get the study again; stored with it.
        say: Called with a line of progress when a population begins and when it has ended.
        by: `shape`, of all runs on a task whose networks have the same shape; `arm`, of the seeds
            of an arm on a task.

    Raises:
        StudyError: The folder holds a different study, or another engine works in it.
    """
    folder = StudyFolder(out)
    groups: dict[Hashable, list[PlannedRun]] = defaultdict(list)
    for planned in study.runs():
        arm = planned.arm if by == "arm" else None
        groups[arm, unpruned(planned.run)].append(planned)
    with lock(out):
        claim(folder, study_record(study, command))
        for group in groups.values():
            runs = [planned.run for planned in group]
            folders = [folder.run_folder(planned.run_id) for planned in group]
            if len(group) < 2 or not fits(runs) or all(each.finished for each in folders):
                continue
            arms = ", ".join(dict.fromkeys(planned.arm for planned in group))
            say(f"{len(group)} runs of {arms} on {group[0].task}, side by side ...")
            with contextlib.ExitStack() as stack:
                for each in folders:
                    stack.enter_context(own(each.path))
                errors = run_side_by_side(runs, [each.path for each in folders])
            failed = [error for error in errors if error is not None]
            say(f"{len(group) - len(failed)} finished, {len(failed)} failed")
