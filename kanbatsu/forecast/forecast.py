"""What a whole study would take, from a few seconds of every arm: timed here, or stored."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kanbatsu.files.disk import read_json
from kanbatsu.files.tables import RecordError, from_dict, to_dict
from kanbatsu.forecast.estimate import GIB, Estimate, Limits, estimate, obstacles
from kanbatsu.forecast.pilot import Speeds, measure
from kanbatsu.forecast.speed import Speed
from kanbatsu.machine import usable_cores
from kanbatsu.run.check import task_facts
from kanbatsu.study.budget import Seconds, solve
from kanbatsu.study.plan import Arm, Study, check_study

PILOT_SECONDS = 10.0
"""Seconds for which each arm is timed on each task, about."""


@dataclass(frozen=True)
class Forecast:
    """What a study would take, and what it was worked out from."""

    study: Study
    """The study with every match solved."""
    speeds: Speeds
    """How fast every arm is on every task."""
    estimate: Estimate
    """Hours, memory and disk of the whole."""
    obstacles: tuple[str, ...]
    """What does not fit into what there is, and what would; a line each."""


def forecast(
    study: Study,
    workers: int | None = None,
    limits: Limits = Limits(),  # noqa: B008 - frozen
    seconds: float = PILOT_SECONDS,
    alike: Sequence[str] = (),
    pilots: Path | None = None,
    stored: Path | None = None,
) -> Forecast:
    """Estimate a study.

    Args:
        study: As it was read.
        workers: Runs at the same time; as many as cores by default.
        limits: What there is; memory and disk are what is free here by default, unless speeds are
            `stored`.
        seconds: About as long as each arm is timed on each task.
        alike: Groups of tasks that take equally long, separated by commas; see `same_time`.
        pilots: Folder of the timed runs, to go on from; by default none is kept.
        stored: A file that `store` wrote, whose speeds are taken; nothing is timed then.

    Raises:
        RecordError: A number makes no sense, or a run cannot be timed.
    """
    cores = len(usable_cores())
    workers = cores if workers is None else workers
    if workers < 1:
        raise RecordError(f"workers must be at least 1, not {workers}")
    for name, value in {**dataclasses.asdict(limits), "seconds": seconds}.items():
        if value is not None and not value > 0:
            raise RecordError(f"--{name} must be greater than 0, not {value}")
    copies = same_time(study, alike)
    if stored is None:
        study, speeds = _measured(study, workers, seconds, copies, pilots)
        each = max(cores / workers, 1.0)
        free = shutil.disk_usage(Path.cwd()).free / GIB
        limits = Limits(limits.hours, limits.memory or free_memory(), limits.disk or free)
    else:
        speeds, each = _as_alike(_read(stored), study, copies), 1.0
        absent = [
            f"{stored} has no speed of arm {arm} on {task}; time it with --json first"
            for arm in study.arms
            for task in study.tasks
            if (arm, task) not in speeds
        ]
        if absent:
            raise RecordError("\n".join(absent))
        study = solve(study, measure=lambda ready: timer(speeds, study))
        check_study(study)
    whole = estimate(study, speeds, workers, each)
    return Forecast(study, speeds, whole, tuple(obstacles(study, speeds, workers, limits, each)))


def _measured(
    study: Study, workers: int, seconds: float, copies: Mapping[str, str], place: Path | None
) -> tuple[Study, Speeds]:
    """Solve a study's matches and time its arms, those that are not `copies` of others."""
    speeds = dict[tuple[str, str], Speed]()

    def time_arms(ready: Study) -> Seconds:
        check_study(ready)
        timed = tuple(task for task in ready.tasks if task not in copies)
        timing = dataclasses.replace(ready, tasks=timed)
        speeds.update(_as_alike(measure(timing, workers, seconds, place=place), ready, copies))
        return timer(speeds, study)

    solved = solve(study, measure=time_arms)
    if not speeds:
        time_arms(solved)
    return solved, speeds


def _as_alike(speeds: Speeds, study: Study, alike: Mapping[str, str]) -> Speeds:
    """Give tasks without a speed that of the task they are like."""
    copied = {
        (arm, task): speeds[arm, timed]
        for arm in study.arms
        for task, timed in alike.items()
        if (arm, timed) in speeds
    }
    return copied | dict(speeds)


def same_time(study: Study, groups: Sequence[str]) -> dict[str, str]:
    """Return the tasks that need not be timed, each with the one that is.

    Args:
        study: What is asked about.
        groups: Comma-separated tasks each; the first one is timed.

    Raises:
        RecordError: A task is not the study's, is in two groups, or differs in what an agent sees
            or does.
    """
    copies: dict[str, str] = {}
    named: set[str] = set()
    for group in groups:
        first, *rest = tasks = group.split(",")
        for task in tasks:
            if task not in study.tasks:
                raise RecordError(f"--alike: the study has no task {task}")
            if task in named:
                raise RecordError(f"--alike: {task} is named twice")
            named.add(task)
        for arm in study.arms.values():
            specs = [task_facts(task, arm.agent, arm.config, arm.train) for task in tasks]
            for task, spec in zip(tasks, specs, strict=True):
                if spec != specs[0]:
                    raise RecordError(f"--alike: {task} has other sizes than {first}: time it too")
        copies |= dict.fromkeys(rest, first)
    return copies


def timer(speeds: Speeds, study: Study) -> Seconds:
    """Return how long runs of a study's arms take, for `solve` to ask."""
    names = {id(arm): name for name, arm in study.arms.items()}

    def seconds(arm: Arm, task: str) -> Callable[[int], float]:
        each = speeds[names[id(arm)], task]
        return lambda env_steps: each.seconds(arm.agent, arm.train, env_steps)[1]

    return seconds


def free_memory() -> float | None:
    """Return the memory that is free, in GiB; None where the system does not say."""
    info = Path("/proc/meminfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("MemAvailable"):
                return int(line.split()[1]) / 2**20
    return None


def store(path: Path, result: Forecast) -> None:
    """Write a forecast and its speeds to a JSON file."""
    whole = result.estimate
    rows = [
        {"arm": arm, "task": task, **to_dict(each)}
        for (arm, task), each in sorted(result.speeds.items())
    ]
    ranges = {
        name: getattr(whole, name)._asdict() for name in ("hours", "core_hours", "memory", "disk")
    }
    record = {
        "question": result.study.question,
        **{name: getattr(whole, name) for name in ("runs", "env_steps", "workers", "cores")},
        **ranges,
        "speeds": rows,
    }
    path.write_text(json.dumps(record, indent=1) + "\n")


def _read(path: Path) -> Speeds:
    try:
        rows = read_json(path)["speeds"]
        return {
            (row["arm"], row["task"]): from_dict(
                Speed, {key: x for key, x in row.items() if key not in ("arm", "task")}
            )
            for row in rows
        }
    except (KeyError, ValueError) as error:
        raise RecordError(f"{path} was not written by kanbatsu estimate --json: {error}") from None
