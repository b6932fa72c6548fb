"""The stages of a proof of concept as studies, and the hours that each of them takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from kanbatsu.forecast.estimate import Range, estimate
from kanbatsu.forecast.pilot import Speeds, measure
from kanbatsu.machine import usable_cores
from kanbatsu.poc.plan import Poc
from kanbatsu.poc.search import Round, rounds
from kanbatsu.report.results import INCUMBENT
from kanbatsu.study.budget import solve
from kanbatsu.study.plan import Study, check_study


class PlanForecast(NamedTuple):
    """What a plan would take."""

    stages: dict[str, Range]
    """Hours of each stage: at least, expected, at most."""
    hours: Range
    """Hours of all stages together."""
    runs: int
    """Runs of all stages together."""
    workers: int


def forecast_plan(
    poc: Poc, seconds: float, workers: int | None, place: Path | None
) -> PlanForecast:
    """Time every arm of a plan, and say what its stages would take.

    Args:
        poc: The plan.
        seconds: Seconds for which each arm is timed, about.
        workers: Runs at the same time; those of the plan, or as many as cores, by default.
        place: Folder for the timed runs; one that is gone afterwards by default.

    Raises:
        RecordError: A run cannot work, or cannot be timed.
    """
    study, shorter = solve(poc.study), _shorter(poc)
    check_study(study)
    workers = workers or poc.budget.workers or len(usable_cores())
    first = dataclasses.replace(study, seeds=(poc.first_search_seed,))
    speeds = measure(first, workers, seconds, place)
    stages = stage_hours(poc, study, shorter, speeds, workers)
    runs = [round_study(poc, shorter, _all(poc, each), each) for each in rounds_of(poc)]
    runs.append(confirm_study(poc, study, poc.candidates[: poc.search.finalists]))
    return PlanForecast(
        stages, whole(stages.values()), sum(len(each.runs()) for each in runs), workers
    )


def _shorter(poc: Poc) -> Study:
    """Return the plan's study with the env steps of the search."""
    if poc.search.env_steps is None:
        return solve(poc.study)
    return solve(dataclasses.replace(poc.study, env_steps=poc.search.env_steps))


def _all(poc: Poc, each: Round) -> list[str]:
    return poc.candidates[: each.candidates]


def rounds_of(poc: Poc) -> list[Round]:
    """Return the rounds of a plan's search."""
    return rounds(
        len(poc.candidates), poc.search.seeds, poc.search.finalists, poc.first_search_seed
    )


def whole(stages: Iterable[Range]) -> Range:
    """Add up the hours of stages, which run one after the other.

    Example:
        >>> whole([Range(1.0, 2.0, 3.0), Range(1.0, 1.0, 1.0)])
        Range(low=2.0, expected=3.0, high=4.0)
    """
    return Range(*map(sum, zip(*stages, strict=True)))


def stage_hours(
    poc: Poc, study: Study, shorter: Study, speeds: Speeds, workers: int
) -> dict[str, Range]:
    """Return what each stage takes: nobody knows which candidates go on.

    Args:
        poc: The plan.
        study: Its study with every match solved.
        shorter: The same with the env steps of the search.
        speeds: Speeds of all arms.
        workers: Runs at the same time.

    Returns:
        Hours by stage: at least, if the fastest candidates go on; expected and at most, if the
        slowest do.
    """
    slowest = sorted(
        poc.candidates,
        key=lambda name: (
            -sum(speeds[name, task].update + speeds[name, task].interaction for task in study.tasks)
        ),
    )
    hours: list[dict[str, Range]] = []
    for order in (slowest[::-1], slowest):
        stages = {
            f"search-{number}": round_study(poc, shorter, order[: each.candidates], each)
            for number, each in enumerate(rounds_of(poc), 1)
        }
        stages["confirm"] = confirm_study(poc, study, order[: poc.search.finalists])
        hours.append({name: estimate(each, speeds, workers).hours for name, each in stages.items()})
    fast, slow = hours
    return {name: Range(fast[name].low, slow[name].expected, slow[name].high) for name in slow}


def round_study(poc: Poc, shorter: Study, names: Sequence[str], each: Round) -> Study:
    """Return one round of the search as a study.

    Args:
        poc: The plan.
        shorter: Its study with the env steps of the search, and every match solved.
        names: Candidates that take part.
        each: The round.
    """
    return dataclasses.replace(
        shorter,
        seeds=each.seeds,
        control=poc.control,
        decision=None,
        arms={name: shorter.arms[name] for name in (poc.control, *names)},
    )


def confirm_study(poc: Poc, study: Study, finalists: Sequence[str]) -> Study:
    """Return the confirmation as a study.

    Args:
        poc: The plan.
        study: Its study with every match solved.
        finalists: Candidates that take part.
    """
    return dataclasses.replace(
        study,
        control=poc.control,
        decision=dataclasses.replace(poc.rule, arms=()),
        arms={
            name: study.arms[name]
            for name in (poc.control, *finalists, INCUMBENT)
            if name in study.arms
        },
    )
