"""A short run of every arm on every task, so that its speed is known before anyone commits."""

from __future__ import annotations

import dataclasses
import math
import tempfile
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from kanbatsu.agents.schedule import TrainConfig
from kanbatsu.engine.place import PlaceConfig
from kanbatsu.engine.progress import no_display
from kanbatsu.engine.run_study import run_study
from kanbatsu.files.store import StudyFolder
from kanbatsu.files.tables import RecordError
from kanbatsu.forecast.speed import Speed, external_speed, fixed_speed, speed
from kanbatsu.report.gather import EXTERNAL
from kanbatsu.report.language import texts
from kanbatsu.report.results import INCUMBENT
from kanbatsu.run.check import task_facts
from kanbatsu.run.operations import operations_of
from kanbatsu.study.plan import Arm, Study
from kanbatsu.study.wording import Wording

NOT_OURS = (EXTERNAL, INCUMBENT)
"""Agents that kanbatsu does not train."""
EXTERNAL_SHARE = 0.05
"""Share of the env steps of a training by somebody else's function that its pilot takes."""
STRETCHES = 8
"""Parts of the pilot's learning that are timed apart."""
WARM_UP = 64
"""Decisions of a pilot before it learns."""
PER_SECOND = 3e10
"""Operations that a core may do in a second; only how long the pilot lasts depends on it."""
FEWEST_TURNS, MOST_TURNS = 16, 4_000
APART = 4.0
"""Arms of which one takes so many times the operations of another have pilots of their own."""

Speeds = Mapping[tuple[str, str], Speed]
"""Speeds by arm and task."""


def pilot(study: Study, seconds: float, workers: int) -> Study:
    """Return a study of the same arms and tasks that takes a few seconds a run.

    Args:
        study: With matches of kept weights solved.
        seconds: About as long as a run of the costliest arm is to learn.
        workers: Runs at the same time.
    """
    if _is_external(study):
        env_steps = math.ceil(EXTERNAL_SHARE * study.env_steps)
        arms = dict(study.arms)
    else:
        env_steps, arms = _short_arms(study, seconds)
    japanese = study.text.get("ja", Wording()).question or study.question
    # As many runs beside each other as in the study itself.
    seeds = math.ceil(workers / (len(study.arms) * len(study.tasks)))
    return dataclasses.replace(
        study,
        question=texts("en")("stages.timed", question=study.question),
        text={"ja": Wording(texts("ja")("stages.timed", question=japanese))},
        env_steps=env_steps,
        seeds=study.seeds[:seeds],
        arms=arms,
        decision=None,
    )


def _is_external(study: Study) -> bool:
    """Whether kanbatsu trains none of the arms."""
    return all(arm.agent in NOT_OURS for arm in study.arms.values())


def _short_arms(study: Study, seconds: float) -> tuple[int, dict[str, Arm]]:
    """Return the env steps of a pilot, and its arms."""
    cost = max(_operations(arm, study) for arm in study.arms.values())
    repeat = max(_steps_of_a_turn(arm, study) for arm in study.arms.values())
    most = min(MOST_TURNS, study.env_steps // repeat)
    turns = max(FEWEST_TURNS, min(most, int(seconds * PER_SECOND / cost)))
    env_steps = (WARM_UP + turns) * repeat
    return env_steps, {
        name: _short(arm, study.tasks[0], turns, env_steps) for name, arm in study.arms.items()
    }


def _operations(arm: Arm, study: Study) -> float:
    """Return the operations of an arm's updates after one decision, on its costliest task."""
    if arm.agent in NOT_OURS:
        return 0.0
    costs = []
    for task in study.tasks:
        config = arm.solved[task].config if task in arm.solved else arm.config
        spec, _ = task_facts(task, arm.agent, config, arm.train)
        each = operations_of(arm.agent, config, arm.train.batch_size, spec).update
        costs.append(each * _updates_per_interaction(arm.train) * arm.train.environments)
    return float(max(costs))


def _updates_per_interaction(train: Any) -> int:
    """Return the rate at which a pilot learns: the late one, where a schedule has two."""
    late = train.late_updates_per_interaction if isinstance(train, TrainConfig) else None
    rate: int = late or train.updates_per_interaction
    return rate


def _steps_of_a_turn(arm: Arm, study: Study) -> int:
    """Return the env steps between an arm's updates, on the task where they are most."""
    if arm.agent in NOT_OURS:
        return 0  # apart from all others
    repeats = [task_facts(task, arm.agent, arm.config, arm.train)[1] for task in study.tasks]
    return max(repeats) * arm.train.environments


def by_cost(study: Study) -> list[Study]:
    """Part a study whose arms take more and less, so that the pilot of each part is long enough.

    Arms of one part take equally many env steps in a turn too: a pilot ends at the same for all.
    """
    parts: list[tuple[int, float, dict[str, Arm]]] = []
    taken = {
        name: (_steps_of_a_turn(arm, study), _operations(arm, study))
        for name, arm in study.arms.items()
    }
    for name in sorted(taken, key=taken.__getitem__, reverse=True):
        steps, cost = taken[name]
        if not parts or parts[-1][0] != steps or parts[-1][1] > APART * cost:
            parts.append((steps, cost, {}))
        parts[-1][2][name] = study.arms[name]
    return [dataclasses.replace(study, arms=arms, control=None) for _, _, arms in parts]


def _short(arm: Arm, task: str, turns: int, env_steps: int) -> Arm:
    """Return an arm that evaluates and probes often enough in a short run to be timed."""
    if arm.agent in NOT_OURS:
        return arm
    _, repeat = task_facts(task, arm.agent, arm.config, arm.train)
    each = repeat * arm.train.environments
    changes: dict[str, Any] = {
        "log_every": max(turns // STRETCHES, 1) * each,
        "evaluate_every": (WARM_UP + turns) // 3 * each,
        "evaluation_episodes": 1,
        "probe_every": (WARM_UP + turns) // 3 * each,
        "checkpoint_every": 10 * (WARM_UP + turns) * each,
    }
    if isinstance(arm.train, TrainConfig):
        # Programs as in the study, in which an update takes as long; how many there are is counted.
        primed = min(arm.train.first_updates, turns)
        changes |= {
            "warmup_interactions": WARM_UP,
            "first_updates": primed,
            "late_from_interaction": 0,
        }
    return dataclasses.replace(
        arm,
        train=dataclasses.replace(arm.train, **changes),
        solved={
            task: dataclasses.replace(solved, env_steps=env_steps)
            for task, solved in arm.solved.items()
        },
    )


def measure(
    study: Study,
    workers: int,
    seconds: float = 10.0,
    place: Path | None = None,
) -> Speeds:
    """Run a pilot in a folder of its own and read off how fast every arm is on every task.

    Runs go beside each other as those of the study would, for they slow each other down.

    Args:
        study: With matches of kept weights solved.
        workers: Runs at the same time.
        seconds: About as long as each run is to learn; those of cheap arms may take less.
        place: Folder for the runs, in which those that are finished are not run again; by default
            one that is gone afterwards.

    Raises:
        RecordError: A run failed; the message is its own. Or the folder holds other runs.
    """
    speeds: dict[tuple[str, str], Speed] = {}
    with tempfile.TemporaryDirectory(prefix="kanbatsu-pilot-") as passing:
        for index, part in enumerate(by_cost(study)):
            short = pilot(part, seconds, workers)
            out = (place or Path(passing)) / f"{index:02d}"
            runs = {planned.run_id for planned in short.runs()}
            new = {name for name in runs if not StudyFolder(out).run_folder(name).finished}
            began = time.monotonic()
            if new:
                run_study(short, out, PlaceConfig(workers=workers), "", no_display())
            speeds |= read_speeds(short, out, workers * (time.monotonic() - began), new)
    return speeds


def read_speeds(
    study: Study,
    out: Path,
    worker_seconds: float | None = None,
    new: Collection[str] = (),
) -> Speeds:
    """Read the speeds of arms off a study's finished runs.

    Args:
        study: The study, as it was carried out.
        out: Its folder.
        worker_seconds: Seconds of all workers together; they tell how long processes take to begin.
        new: Ids of the runs that they carried out meanwhile.

    Raises:
        RecordError: A run is missing; the message is its own, if it failed.
    """
    folder = StudyFolder(out)
    speeds: dict[tuple[str, str], Speed] = {}
    took = 0.0
    for planned in study.runs():
        run = folder.run_folder(planned.run_id)
        if not run.finished:
            status = run.read_status() or {}
            error = status.get("error") or "it did not finish"
            raise RecordError(f"arm {planned.arm} cannot be timed on {planned.task}: {error}")
        lines = run.timing()
        took += lines[-1]["seconds"] if planned.run_id in new else 0.0
        if planned.run.agent in NOT_OURS:
            evaluated = planned.run.agent == INCUMBENT  # which takes as long whatever the end is
            read = fixed_speed if evaluated else external_speed
            speeds.setdefault((planned.arm, planned.task), read(lines))
            continue
        spec, repeat = task_facts(
            planned.task, planned.run.agent, planned.run.config, planned.run.train
        )
        size = sum(file.stat().st_size for file in run.checkpoint.rglob("*") if file.is_file())
        measured = speed(lines, run.metrics(), planned.run.train, spec, repeat, size)
        speeds.setdefault((planned.arm, planned.task), measured)
    if worker_seconds is not None and new:
        begins = max(worker_seconds - took, 0.0) / len(new)
        speeds = {
            key: dataclasses.replace(each, start=each.start + begins)
            for key, each in speeds.items()
        }
    return speeds
