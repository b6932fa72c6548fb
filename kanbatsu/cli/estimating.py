"""`kanbatsu estimate`: its options, and the table that it prints."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kanbatsu.cli.parsing import parse
from kanbatsu.cli.saying import (
    is_plan,
    own_code,
    plan_on_cpu,
    refuse_settings,
    refusing,
    say,
)

if TYPE_CHECKING:
    from kanbatsu.forecast.estimate import Estimate, Range
    from kanbatsu.forecast.pilot import Speeds
    from kanbatsu.study.cost import Cost
    from kanbatsu.study.plan import Study


@dataclass(frozen=True)
class EstimateArguments:
    """Time a few seconds of every arm, and say what the whole study, or plan, would take."""

    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE.toml")]
    """The study file, as for kanbatsu study, or the plan of a proof of concept."""
    overrides: Annotated[
        tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="[KEY=VALUE ...]")
    ] = ()
    """Settings laid over the file, as for kanbatsu study."""
    workers: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Runs at the same time; as many as cores by default."""
    hours: float | None = None
    """Hours available; a study that needs more is refused (exit code 2)."""
    memory: float | None = None
    """GiB of memory available; what is free on this machine by default."""
    disk: float | None = None
    """GiB of disk available; what is free on this machine by default."""
    seconds: float = 10.0
    """Approximate seconds for which each arm is timed on each task."""
    alike: tuple[str, ...] = ()
    """Groups of tasks that take equally long, each as TASK,TASK,... Only the first task of a group
    is timed (or, with --measured, has to be in that file)."""
    pilots: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder for the timed runs; with it the same command again continues where it was stopped."""
    measured: Annotated[Path | None, tyro.conf.arg(metavar="FILE.json")] = None
    """File that --json wrote, on one machine of a cluster for example. Its speeds are used, and
    nothing is timed."""
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE.json")] = None
    """File to write the estimate and the measured speeds to."""
    own_code: bool = True
    """Permission to run tasks that import a module by name (package.module:factory). A file from
    somebody else can name any code: --no-own-code refuses such a task."""


def estimate(words: list[str]) -> int:
    """Print what a study would take; refuse one that does not fit."""
    refuse_settings(words, "kanbatsu estimate")
    given = parse(EstimateArguments, words, "kanbatsu estimate")
    from kanbatsu.files.tables import RecordError
    from kanbatsu.forecast.estimate import Limits
    from kanbatsu.forecast.forecast import forecast, store
    from kanbatsu.study.budget import matches
    from kanbatsu.study.file import load_study

    plan_on_cpu()
    console = Console()
    timing = console.status("timing a few seconds of every arm ...")
    if is_plan(given.file):
        return _estimate_plan(given, console)
    with own_code(given.own_code), refusing():
        study = load_study(given.file, given.overrides)
        with contextlib.nullcontext() if given.measured else timing:
            result = forecast(
                study,
                given.workers,
                Limits(given.hours, given.memory, given.disk),
                given.seconds,
                given.alike,
                given.pilots,
                given.measured,
            )
        for line in matches(result.study):
            say(line)
        console.print(table(result.study, result.speeds), highlight=False)
        console.print(describe(result.estimate), highlight=False)
        for line in charges(result.study.cost, result.estimate):
            console.print(line, highlight=False)
        if given.json is not None:
            store(given.json, result)
        if result.obstacles:
            raise RecordError("\n".join(f"the study does not fit: {x}" for x in result.obstacles))
    most = result.estimate.hours.high
    if given.hours is not None and most > given.hours:
        console.print(f"It should fit into {given.hours:g} hours, but may take up to {most:.2g}.")
    return 0


def _estimate_plan(given: EstimateArguments, console: Console) -> int:
    """Print what the stages of a proof of concept would take; refuse a plan that does not fit."""
    from kanbatsu.files.tables import RecordError
    from kanbatsu.poc.parts import forecast_plan
    from kanbatsu.poc.plan import load_poc

    unfit = {"overrides": "KEY=VALUE", "alike": "--alike", "measured": "--measured"}
    unfit |= {"json": "--json", "memory": "--memory", "disk": "--disk"}
    with own_code(given.own_code), refusing():
        if named := [option for name, option in unfit.items() if getattr(given, name)]:
            raise RecordError(f"{named[0]} is for studies; {given.file} is a plan: leave it out")
        poc = load_poc(given.file)
        with console.status("timing a few seconds of every arm ..."):
            found = forecast_plan(poc, given.seconds, given.workers, given.pilots)
        for name, hours in (*found.stages.items(), ("all", found.hours)):
            low, likely, high = (lasting(3600 * each) for each in hours)
            console.print(f"{name:<11} {likely}  ({low} to {high})", highlight=False)
        console.print(
            f"{found.runs} runs, {found.workers} at a time; at least where the fastest candidates "
            "go on, at most where the slowest do",
            highlight=False,
        )
        limit = poc.budget.hours if given.hours is None else given.hours
        if (expected := found.hours.expected) > limit:
            raise RecordError(
                f"the plan does not fit: it needs about {expected:.2g} hours, and there are "
                f"{limit:g}"
            )
    return 0


def charges(cost: Cost | None, whole: Estimate) -> list[str]:
    """Say what a study costs by its own prices, a line each; nothing where it names none.

    Example:
        >>> from kanbatsu.forecast.estimate import Estimate, Range
        >>> from kanbatsu.study.cost import Cost
        >>> some = Range(1.0, 1.5, 2.0)
        >>> for line in charges(
        ...     Cost("JPY", core_hour=20.0, watts=60.0, kilowatt_hour=30.0, delay_hour=500.0),
        ...     Estimate(6, 1200, 2, 1.0, some, some, some, some),
        ... ): print(line)
        energy      0.09 kWh  (0.06 to 0.12), by the watts of the plan
        money       33 JPY  (22 to 44), by the prices of the plan
        delay       750 JPY  (500 to 1,000)
    """
    if cost is None:
        return []
    from kanbatsu.files.tables import to_dict
    from kanbatsu.report.cost import bill

    bills = [bill(to_dict(cost), hours) for hours in whole.core_hours]
    lines = []
    energy = [each.kilowatt_hours for each in bills if each.kilowatt_hours is not None]
    if energy:
        low, expected, high = map(_number, energy)
        lines.append(f"energy      {expected} kWh  ({low} to {high}), by the watts of the plan")
    money = [each.money for each in bills if each.money is not None]
    if money:
        low, expected, high = map(_number, money)
        currency = cost.currency
        lines.append(
            f"money       {expected} {currency}  ({low} to {high}), by the prices of the plan"
        )
    if cost.delay_hour:
        low, expected, high = (_number(hours * cost.delay_hour) for hours in whole.hours)
        lines.append(f"delay       {expected} {cost.currency}  ({low} to {high})")
    return lines


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


def describe(whole: Estimate) -> str:
    """Say what a study takes.

    Example:
        >>> from kanbatsu.forecast.estimate import Estimate, Range
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
            f"{whole.runs} runs, {whole.env_steps:,} env steps in all, {whole.workers} at a time",
            f"hours       {shown(whole.hours)}",
            f"core-hours  {shown(whole.core_hours)}",
            f"memory      {shown(whole.memory, ' GiB')}",
            f"disk        {shown(whole.disk, ' GiB')}",
        )
    )
