"""What a study will take, before it is begun: hours, memory, disk; and what would fit."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from kanbatsu.forecast.pilot import Speeds
from kanbatsu.study.plan import PlannedRun, Study

CHECKPOINTS = 3
"""Checkpoints of a run on disk at the worst moment: two kept ones and one being written."""
GIB = 1 << 30


class Range(NamedTuple):
    """A number that is not known exactly."""

    low: float
    expected: float
    high: float


@dataclass(frozen=True)
class Limits:
    """Time, memory and disk that there are; None where it does not matter."""

    hours: float | None = None
    memory: float | None = None
    """GiB of memory for all workers together."""
    disk: float | None = None
    """GiB of disk."""


@dataclass(frozen=True)
class Estimate:
    """What a study takes with a number of workers."""

    runs: int
    env_steps: int
    workers: int
    cores: float
    """Cores of each worker."""
    hours: Range
    core_hours: Range
    memory: Range
    """GiB of memory of all workers together."""
    disk: Range
    """GiB on disk at the worst moment."""


def estimate(
    study: Study,
    speeds: Speeds,
    workers: int,
    cores: float = 1.0,
    runs: Sequence[PlannedRun] | None = None,
    scale: float = 1.0,
) -> Estimate:
    """Estimate what the runs of a study take.

    Args:
        study: With every match solved.
        speeds: As measured; they may come from another day, or another study with the same arms.
        workers: Runs at the same time.
        cores: Cores of each worker, for core-hours.
        runs: Runs that are meant; all by default.
        scale: Each run is so many times as long.

    Raises:
        KeyError: An arm was not measured on a task.
    """
    runs = study.runs() if runs is None else runs
    lasting: list[tuple[float, ...]] = []
    memory: list[tuple[int, int]] = []
    kept = moving = 0.0
    for planned in runs:
        each = speeds[planned.arm, planned.task]
        train, env_steps = planned.run.train, int(planned.run.env_steps * scale)
        lasting.append(each.seconds(planned.run.agent, train, env_steps))
        replay = each.replay_bytes(train, env_steps)
        memory.append((each.memory + replay, each.memory + 2 * replay))
        kept += each.checkpoint + each.line * env_steps
        moving = max(moving, CHECKPOINTS * (each.checkpoint + replay))
    hours = Range(*(makespan(which, workers) / 3600 for which in zip(*lasting, strict=True)))
    work = Range(*(sum(which) / 3600 * cores for which in zip(*lasting, strict=True)))
    at_once = min(workers, len(runs))
    # A checkpoint holds a copy of the replay while it is written.
    least, most = (sum(sorted(which)[-at_once:]) / GIB for which in zip(*memory, strict=True))
    disk = (kept + moving * at_once) / GIB
    return Estimate(
        runs=len(runs),
        env_steps=sum(int(planned.run.env_steps * scale) for planned in runs),
        workers=workers,
        cores=cores,
        hours=hours,
        core_hours=work,
        memory=Range(least, (least + most) / 2, most),
        disk=Range(kept / GIB, disk, disk * 1.5),
    )


def makespan(seconds: Iterable[float], workers: int) -> float:
    """Return when the last of some runs ends if each worker takes the next when it is free.

    Example:
        >>> makespan([3.0, 1.0, 1.0, 2.0], workers=2)
        4.0
    """
    free = [0.0] * workers
    for each in seconds:
        heapq.heapreplace(free, free[0] + each)
    return max(free)


def obstacles(
    study: Study, speeds: Speeds, workers: int, limits: Limits, cores: float = 1.0
) -> list[str]:
    """Say what of a plan does not fit into what there is, and what would; one line each.

    Args: as for `estimate`; `limits` is what there is.

    Returns:
        No line where all fits as far as can be expected.
    """
    need = estimate(study, speeds, workers, cores)
    problems = []
    if limits.hours is not None and need.hours.expected > limits.hours:
        problems.append(
            f"it needs about {need.hours.expected:.3g} hours, and there are {limits.hours:g}. "
            + _what_fits(study, speeds, workers, limits.hours)
        )
    if limits.memory is not None and need.memory.expected > limits.memory:
        each = need.memory.expected / min(workers, need.runs)
        fewer = int(limits.memory / each)
        advice = (
            f"--workers {fewer} would fit" if fewer else "a smaller train.replay_capacity might"
        )
        problems.append(
            f"it needs about {need.memory.expected:.3g} GiB of memory, and there are "
            f"{limits.memory:.3g}: {advice}"
        )
    if limits.disk is not None and need.disk.expected > limits.disk:
        problems.append(
            f"it needs about {need.disk.expected:.3g} GiB of disk, and there are "
            f"{limits.disk:.3g}: fewer --workers or a smaller train.replay_capacity would need less"
        )
    return problems


def _what_fits(study: Study, speeds: Speeds, workers: int, hours: float) -> str:
    """Name the changes that would each make a study fit into some hours."""
    runs = study.runs()

    def takes(some: Sequence[PlannedRun], workers: int = workers, scale: float = 1.0) -> float:
        return estimate(study, speeds, workers, runs=some, scale=scale).hours.expected

    ways = []
    for seeds in range(len(study.seeds) - 1, 0, -1):
        if takes([run for run in runs if run.seed in study.seeds[:seeds]]) <= hours:
            ways.append(f"seeds = {seeds}")
            break
    share = _largest(lambda percent: takes(runs, scale=percent / 100) <= hours, 99)
    if share:
        steps = study.env_steps * share // 100
        rounded = steps - steps % 10 ** max(len(str(steps)) - 2, 0)
        ways.append(f"env_steps = {rounded}")
    for more in range(workers + 1, len(runs) + 1):
        if takes(runs, more) <= hours:
            ways.append(f"{more} workers on as many cores more")
            break
    if not ways:
        return "No fewer seeds, shorter runs or further workers would make it fit."
    return f"What would fit: {', or '.join(ways)}."


def _largest(fits: Callable[[int], bool], most: int) -> int:
    """Find by bisection the largest number up to `most` that fits; 0 if 1 does not."""
    low, high = 0, most + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
