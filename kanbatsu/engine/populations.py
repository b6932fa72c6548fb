"""A study carried out as populations: runs of one shape side by side in this process."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Hashable
from typing import Literal

from kanbatsu.files.lock import own
from kanbatsu.files.store import StudyFolder
from kanbatsu.run.carry import fits, run_side_by_side, unpruned
from kanbatsu.study.plan import PlannedRun, Study

Population = Literal["auto", "arm"]
"""Runs that go side by side: all on a task whose networks have the same shape (auto), or the seeds
of one arm after the other (arm)."""


def run_populations(
    study: Study, folder: StudyFolder, say: Callable[[str], None], population: Population
) -> None:
    """Carry out a study as populations, one after the other, in this process.

    What is no population, and what failed, is left for the workers.

    Args:
        study: Checked by `kanbatsu.study.plan.check_study`.
        folder: The study's, claimed and locked.
        say: Called with a line of progress when a population begins and when it has ended.
        population: Which runs go side by side.
    """
    groups: dict[Hashable, list[PlannedRun]] = defaultdict(list)
    for planned in study.runs():
        arm = planned.arm if population == "arm" else None
        groups[arm, unpruned(planned.run)].append(planned)
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
        failures = sum(error is not None for error in errors)
        say(f"{len(group) - failures} finished, {failures} failed")
