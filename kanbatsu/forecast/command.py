"""What `kanbatsu estimate` is asked for, prints and stores."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kanbatsu.files.disk import read_json
from kanbatsu.files.tables import RecordError, from_dict, to_dict
from kanbatsu.forecast.estimate import GIB, Estimate, Limits, Range, estimate, obstacles
from kanbatsu.forecast.pilot import Speeds, measure
from kanbatsu.forecast.speed import Speed
from kanbatsu.machine import usable_cores
from kanbatsu.run.check import task_facts
from kanbatsu.study.budget import matches, solve
from kanbatsu.study.file import load_study
from kanbatsu.study.plan import Arm, Study, check_study

PILOT_SECONDS = 10.0
"""About as long as each arm is timed on each task."""


@dataclass(frozen=True)
class EstimateArguments:
    """Time a few seconds of every arm, and say what the whole study would take."""

    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE.toml")]
    """A study file."""
    overrides: Annotated[
        tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="[KEY=VALUE ...]")
    ] = ()
    """KEY=VALUE over the file, as for kanbatsu study."""
    workers: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Runs at the same time; as many as cores by default."""
    hours: float | None = None
    """Hours that there are; a study that needs more is refused (exit code 2)."""
    memory: float | None = None
    """GiB of memory that there are; what is free here by default."""
    disk: float | None = None
    """GiB of disk that there are; what is free here by default."""
    seconds: float = PILOT_SECONDS
    """About as long as each arm is timed on each task."""
    alike: tuple[str, ...] = ()
    """TASK,TASK,... each: tasks that take equally long. Only the first is timed, or must be in the
    file of --measured."""
    pilots: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """A folder for the timed runs: the same command again goes on where it was stopped."""
    measured: Annotated[Path | None, tyro.conf.arg(metavar="FILE.json")] = None
    """Take the speeds from what --json stored, and time nothing: for a cluster of such machines."""
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE.json")] = None
    """A file for the estimate and the speeds."""


def forecast(asked: EstimateArguments, console: Console) -> Estimate:
    """Estimate a study and print it.

    Raises:
        RecordError: The file is wrong, a run cannot be timed, or the study does not fit.
    """
    study = load_study(asked.file, asked.overrides)
    cores = len(usable_cores())
    workers = cores if asked.workers is None else asked.workers
    if workers < 1:
        raise RecordError(f"workers must be at least 1, not {workers}")
    for name in ("hours", "memory", "disk", "seconds"):
        if getattr(asked, name) is not None and not getattr(asked, name) > 0:
            raise RecordError(f"--{name} must be greater than 0, not {getattr(asked, name)}")
    alike = same_time(study, asked.alike)
    if asked.measured is None:
        with console.status("timing a few seconds of every arm ..."):
            study, speeds = measured(study, workers, asked.seconds, alike=alike, place=asked.pilots)
        each = max(cores / workers, 1.0)
        limits = Limits(
            asked.hours,
            asked.memory or free_memory(),
            asked.disk or shutil.disk_usage(Path.cwd()).free / GIB,
        )
    else:
        speeds = _as_alike(_read(asked.measured), study, alike)
        study = solve(study, seconds=_timer(speeds, study))
        check_study(study)
        each, limits = 1.0, Limits(asked.hours, asked.memory, asked.disk)
        absent = [
            f"{asked.measured} has no speed of arm {arm} on {task}; time it with --json first"
            for arm in study.arms
            for task in study.tasks
            if (arm, task) not in speeds
        ]
        if absent:
            raise RecordError("\n".join(absent))
    found = estimate(study, speeds, workers, each)
    for line in matches(study):
        console.print(escape(line), highlight=False, soft_wrap=True)
    console.print(table(study, speeds), describe(found), sep="\n", highlight=False)
    if asked.json is not None:
        _write(asked.json, study, found, speeds)
    problems = obstacles(study, speeds, workers, limits, each)
    if problems:
        raise RecordError("\n".join(f"the study does not fit: {problem}" for problem in problems))
    if limits.hours is not None and found.hours.high > limits.hours:
        console.print(
            f"It should fit into {limits.hours:g} hours, but may take up to {found.hours.high:.2g}."
        )
    return found


def measured(
    study: Study,
    workers: int,
    seconds: float,
    old: Mapping[str, Any] | None = None,
    alike: Mapping[str, str] | None = None,
    place: Path | None = None,
) -> tuple[Study, Speeds]:
    """Solve a study's matches and time its arms.

    Args:
        study: As it was read.
        workers: Runs at the same time.
        seconds: About as long as each arm is timed on each task.
        old: What `study.json` holds already.
        alike: Tasks that are not timed, and the task of which each has the speeds.
        place: Folder of the timed runs, to go on from; by default none is kept.

    Raises:
        RecordError: A match cannot be met, or a run cannot work.
    """
    kept = solve(_without_time(study), old)
    check_study(kept)
    alike = alike or {}
    timed = tuple(task for task in kept.tasks if task not in alike)
    timing = dataclasses.replace(kept, tasks=timed)
    speeds = _as_alike(measure(timing, workers, seconds, place=place), kept, alike)
    return solve(study, old, _timer(speeds, study)), speeds


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
    found: dict[str, str] = {}
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
        found |= dict.fromkeys(rest, first)
    return found


def _without_time(study: Study) -> Study:
    """Take out the matches that need a measurement."""
    arms = {
        name: dataclasses.replace(arm, match=None)
        if arm.match and arm.match.what == "time"
        else arm
        for name, arm in study.arms.items()
    }
    return dataclasses.replace(study, arms=arms)


def _timer(speeds: Speeds, study: Study) -> Any:
    """Return what tells `solve` how long a run of an arm takes."""
    names = {id(arm): name for name, arm in study.arms.items()}

    def seconds(arm: Arm, task: str) -> Any:
        each = speeds[names[id(arm)], task]
        return lambda env_steps: each.seconds(arm.agent, arm.train, env_steps)[1]

    return seconds


def table(study: Study, speeds: Speeds) -> Table:
    """Lay out what a run of each arm takes on each task."""
    result = Table(box=None, pad_edge=False, header_style="bold")
    result.add_column("a run of")
    result.add_column("on")
    for heading in ("env steps", "ms per update", "takes", "between", "MiB"):
        result.add_column(heading, justify="right")
    seen = set()
    for planned in study.runs():
        key = planned.arm, planned.task
        if key in seen:
            continue
        seen.add(key)
        each, run = speeds[key], planned.run
        low, expected, high = each.seconds(run.agent, run.train, run.env_steps)
        memory = each.memory + each.replay_bytes(run.train, run.env_steps)
        result.add_row(
            escape(planned.arm),
            escape(planned.task),
            f"{run.env_steps:,}",
            f"{1e3 * each.update:.2f}",
            lasting(expected),
            f"{lasting(low)}, {lasting(high)}",
            f"{memory / 2**20:,.0f}",
        )
    return result


def lasting(seconds: float) -> str:
    """Say how long something takes, in a unit that suits it.

    Example:
        >>> [lasting(seconds) for seconds in (90.0, 600.0, 86_400.0, 5e6)]
        ['90 s', '10 min', '24 h', '58 d']
    """
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{_number(seconds / size)} {unit}"
    return f"{_number(seconds)} s"


def _number(value: float) -> str:
    """Two digits, or as many as stand before the point."""
    return f"{value:.2g}" if value < 10 else f"{value:,.0f}"


def describe(found: Estimate) -> str:
    """Say what a study takes.

    Example:
        >>> some = Range(1.0, 1.5, 2.0)
        >>> print(describe(Estimate(6, 1200, 2, 1.0, some, some, some, some)))
        6 runs, 1,200 env steps in all, 2 at a time
        hours       1.5  (1 to 2)
        core-hours  1.5  (1 to 2)
        memory      1.5 GiB  (1 to 2)
        disk        1.5 GiB  (1 to 2)
    """

    def shown(number: Range, unit: str = "") -> str:
        low, expected, high = (_number(value) for value in number)
        return f"{expected}{unit}  ({low} to {high})"

    return "\n".join(
        (
            f"{found.runs} runs, {found.env_steps:,} env steps in all, {found.workers} at a time",
            f"hours       {shown(found.hours)}",
            f"core-hours  {shown(found.core_hours)}",
            f"memory      {shown(found.memory, ' GiB')}",
            f"disk        {shown(found.disk, ' GiB')}",
        )
    )


def free_memory() -> float | None:
    """Return the memory that is free, in GiB; None where the system does not say."""
    info = Path("/proc/meminfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("MemAvailable"):
                return int(line.split()[1]) / 2**20
    return None


def _write(path: Path, study: Study, found: Estimate, speeds: Speeds) -> None:
    rows = [
        {"arm": arm, "task": task, **to_dict(each)} for (arm, task), each in sorted(speeds.items())
    ]
    ranges = {
        name: getattr(found, name)._asdict() for name in ("hours", "core_hours", "memory", "disk")
    }
    record = {
        "question": study.question,
        **{name: getattr(found, name) for name in ("runs", "env_steps", "workers", "cores")},
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
