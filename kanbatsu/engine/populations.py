"""A study carried out as populations: runs of one shape side by side in one process."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Literal

from kanbatsu.engine.local_place import worker_environment
from kanbatsu.engine.supervise import Order, carry_through, is_finished
from kanbatsu.files.store import StudyFolder
from kanbatsu.files.tables import to_dict
from kanbatsu.machine import usable_cores
from kanbatsu.report.gather import EXTERNAL
from kanbatsu.report.results import INCUMBENT
from kanbatsu.run.carry import unpruned
from kanbatsu.study.plan import PlannedRun, Study

Population = Literal["auto", "arm"]
"""Runs that go side by side: all on a task whose networks have the same shape (auto), or the seeds
of one arm after the other (arm)."""


def run_populations(
    study: Study,
    folder: StudyFolder,
    say: Callable[[str], None],
    population: Population,
    timeout_seconds: float | None = None,
) -> None:
    """Carry out a study as populations, one after the other, each in a process of its own.

    What is no population, and what failed, is left for the workers.

    Args:
        study: Checked by `kanbatsu.study.plan.check_study`.
        folder: The study's, claimed and locked.
        say: Called with a line of progress when a population begins and when it has ended.
        population: Which runs go side by side.
        timeout_seconds: Seconds without progress after which a population is ended; never by
            default.
    """
    groups: dict[Hashable, list[PlannedRun]] = defaultdict(list)
    for planned in study.runs():
        if planned.run.agent in (EXTERNAL, INCUMBENT):
            continue
        arm = planned.arm if population == "arm" else None
        groups[arm, unpruned(planned.run)].append(planned)
    for group in groups.values():
        files = [folder.run_folder(planned.run_id) for planned in group]
        if len(group) < 2 or all(map(is_finished, files)):
            continue
        arms = ", ".join(dict.fromkeys(planned.arm for planned in group))
        say(f"{len(group)} runs of {arms} on {group[0].task}, side by side ...")
        order = order_of(folder, group, retries=0, timeout_seconds=timeout_seconds)
        with tempfile.TemporaryDirectory(prefix="kanbatsu-") as compiled:
            end = carry_through(order, usable_cores(), worker_environment(Path(compiled)), say)
        finished = sum(map(is_finished, files))
        why = f": {end.error}" if finished < len(group) else ""
        say(f"{finished} finished, {len(group) - finished} failed{why}")


def order_of(
    folder: StudyFolder, runs: Sequence[PlannedRun], retries: int, timeout_seconds: float | None
) -> Order:
    """Return what a worker is to do: one run of a study, or several side by side."""
    folders = {str(folder.run_folder(each.run_id).path.resolve()): each.run for each in runs}
    records = {path: to_dict(run) for path, run in folders.items()}
    return Order(records, str(Path.cwd()), retries, timeout_seconds)
