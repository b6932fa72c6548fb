"""Who plays in a folder: the arms of a study with one seed, or one run alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kanbatsu.files.store import RunFolder, StudyFolder
from kanbatsu.files.tables import RecordError, did_you_mean
from kanbatsu.play.player import Player, player_of

MOST = 4
"""Most arms side by side, unless others are named."""


@dataclass(frozen=True)
class Choice:
    """Runs of a study that are wanted; None leaves the choice to the study."""

    arms: tuple[str, ...] = ()
    """Names of arms, in the order in which they are shown."""
    task: str | None = None
    """Task of the runs."""
    seed: int | None = None
    """Seed of the runs."""


def cast(folder: Path, choice: Choice) -> list[Player]:
    """Return who plays.

    Of a study these are, where nothing else is chosen, the control, the arm that the verdict
    speaks of, and others in the order of the file, up to four, on the first task and with the
    first seed of which all of them have a checkpoint.

    Args:
        folder: folder of a run or of a study.
        choice: what is wanted of a study.

    Raises:
        RecordError: there is nothing to play with, or no such arm, task or seed.
        TaskError: the task cannot be had.
    """
    study = StudyFolder(folder)
    if not study.holds_study:
        if not (folder / "config.json").exists():
            raise RecordError(
                f"{folder} holds neither a study nor a run: name the --out of kanbatsu study, poc "
                "run or train, or OUT/runs/<run id>"
            )
        if choice != Choice():
            raise RecordError(f"{folder} is one run: --arms, --task and --run-seed are of studies")
        return [player_of(RunFolder(folder), folder.resolve().name)]
    table = study.read_study()
    arms = _arms(folder, table, choice.arms)
    task = choice.task or table["tasks"][0]
    if task not in table["tasks"]:
        raise RecordError(f"no task {task!r} in {folder}. {did_you_mean(task, table['tasks'])}")
    runs = {arm: table["arms"][arm]["runs"].get(task, {}) for arm in arms}
    seed = str(choice.seed) if choice.seed is not None else _seed(study, runs)
    if lacking := [arm for arm in arms if seed not in runs[arm]]:
        known = ", ".join(sorted(runs[lacking[0]], key=int)) or "none"
        raise RecordError(f"{lacking[0]} has no run with seed {seed} on {task}: it has {known}")
    return [player_of(study.run_folder(runs[arm][seed]), arm) for arm in arms]


def _arms(folder: Path, table: Mapping[str, Any], wanted: Sequence[str]) -> list[str]:
    """Return the names of the arms that play."""
    for name in wanted:
        if name not in table["arms"]:
            raise RecordError(f"no arm {name!r} in {folder}. {did_you_mean(name, table['arms'])}")
    if wanted:
        return list(wanted)
    summary = folder / "summary.json"
    verdict = (json.loads(summary.read_text()) if summary.exists() else {}).get("verdict") or {}
    first = [name for name in (table.get("control"), verdict.get("arm")) if name in table["arms"]]
    return list(dict.fromkeys([*first, *table["arms"]]))[:MOST]


def _seed(study: StudyFolder, runs: Mapping[str, Mapping[str, str]]) -> str:
    """Return the first seed with which all arms can play; else the first that all of them have."""
    common = sorted(set.intersection(*(set(of_arm) for of_arm in runs.values())), key=int)
    if not common:
        raise RecordError("the arms have no seed in common: name one with --run-seed")

    def playable(arm: str, seed: str) -> bool:
        run = study.run_folder(runs[arm][seed])
        return run.checkpoint.exists() or arm == "incumbent"

    return next((seed for seed in common if all(playable(arm, seed) for arm in runs)), common[0])
