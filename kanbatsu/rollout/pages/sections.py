"""Tables of a rollout's page, as text: from latency to the changes of stage."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kanbatsu.report.language import Texts
from kanbatsu.report.words import DASH
from kanbatsu.rollout.pages.overview import Incident, Overview, quantiles


@dataclass(frozen=True)
class Table:
    """A table as text; the first column names the rows."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    kind: str = ""
    """Class of the table: `prose` where its cells are sentences, `narrow` where they are few."""


@dataclass(frozen=True)
class Section:
    """A part of the page that is made of tables."""

    name: str
    title: str
    tables: Sequence[Table]
    none: str
    """Sentence that stands where there is no table."""
    caption: str = ""


def moment(at: float) -> str:
    """Write a time of day.

    Example:
        >>> moment(0.0)
        '1970-01-01 00:00:00'
    """
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at))


def number(value: float | int | str | None) -> str:
    """Write a number with four digits, and a large one in full.

    Example:
        >>> number(0.00123456), number(12345), number(12345.6), number(None)
        ('0.001235', '12,345', '12,346', '–')
    """
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return DASH
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 1000 else f"{value:.4g}"


def named(section: str, name: str, t: Texts) -> str:
    """Return what a name of an event means; the name itself where no text says it."""
    return t(f"{section}.{name}") if t.has(f"{section}.{name}") else name


def gate(event: Mapping[str, Any], t: Texts) -> dict[str, Any]:
    """Return a gate: its title, what it says, its rule and its numbers."""
    stage = named("short", event["stage"], t)
    numbers = event.get("numbers") or {}
    return {
        "title": t("gate.of_stage", stage=stage, time=moment(event["time"])),
        "word": gate_word(event, t),
        "rule": event["rule"],
        "table": Table(
            (t("gate.number"), t("gate.value")),
            [(name.replace("_", " "), number(value)) for name, value in numbers.items()],
            "narrow",
        ),
    }


def gate_word(event: Mapping[str, Any], t: Texts) -> str:
    """Say whether a gate was passed, or says to roll back."""
    if event.get("harm"):
        return t("line.gate_harm")
    return t("line.gate_passed" if event["passed"] else "line.gate_open")


def incident(event: Incident, t: Texts) -> dict[str, Any]:
    """Return an incident as text."""
    first, last = moment(event.first), moment(event.last)
    if event.kind == "alarm":
        which, _, direction = event.name.rpartition(" ")
        statistic, _, feature = which.partition(" ")
        arrow = {"up": "\u2191", "down": "\u2193"}.get(direction, "")
        watched = named("drift", statistic, t)
        what = f"{watched}{t('list.colon')}{feature} {arrow}"
    else:
        section = {"guard": "trigger", "shadow": "failure", "gate": "short", "stage": "stage"}
        what = named(section.get(event.kind, ""), event.name, t)
    return {
        "kind": event.kind,
        "word": t(f"kind.{event.kind}"),
        "time": first if first == last else t("incident.until", first=first, last=last),
        "count": event.count,
        "what": what,
        "detail": event.detail,
    }


def latency(overview: Overview, deadline_us: float | None, t: Texts) -> Section:
    """Return the quantiles of latency beside the deadline, in milliseconds."""
    rows = []
    for who, series in (("service", overview.latencies), ("shadow", overview.shadow_latencies)):
        found = quantiles(series)
        if found is None:
            continue
        late = None
        if deadline_us is not None:
            late = f"{100 * np.mean([value > deadline_us for _, value in series]):.3g}%"
        shown = [f"{number(value / 1e3)} ms" for value in found]
        limit = DASH if deadline_us is None else f"{number(deadline_us / 1e3)} ms"
        rows.append([t(f"latency.{who}"), *shown, limit, late or DASH, f"{len(series):,}"])
    columns = ("who", "median", "p99", "most", "deadline", "late", "count")
    return _section("latency", [_table("latency", columns, rows, t)], t)


def guard(overview: Overview, t: Texts) -> Section:
    """Return what the guard found, how often, and where actions came from."""
    rows = [
        [named("trigger", trigger, t), f"{count:,}", moment(last)]
        for trigger, (count, last) in sorted(overview.guard.items(), key=lambda item: -item[1][0])
    ]
    total = sum(overview.actions.values())
    sources = [
        [named("source", source, t), f"{count:,}", f"{100 * count / total:.3g}%"]
        for source, count in overview.actions.most_common()
    ]
    tables = [
        _table("guard", ("trigger", "count", "last"), rows, t),
        _table("guard", ("sources", "actions", "share"), sources, t),
    ]
    return _section("guard", tables, t, caption=None if rows else t("guard.none"))


def drift(overview: Overview, t: Texts) -> Section:
    """Return the alarms that are on, and the latest level of each statistic."""
    on = [
        [
            f"{named('drift', statistic, t)}{t('list.colon')}{feature}",
            moment(event["time"]),
            number(event["value"]),
        ]
        for (statistic, feature), event in overview.alarms.items()
    ]
    levels = [
        [named("drift", statistic, t), number(series[-1][1]), number(max(v for _, v in series))]
        for statistic, series in overview.drift.items()
    ]
    tables = [
        _table("drift", ("on", "since", "value"), on, t),
        _table("drift", ("statistic", "latest", "highest"), levels, t),
    ]
    return _section("drift", tables, t, caption=t("drift.caption"))


def episodes(overview: Overview, t: Texts) -> Section:
    """Return what each policy's episodes came to."""
    rows = []
    for arm, count in overview.episodes.items():
        returns = [value for _, value in overview.returns.get(arm, ())]
        mean = float(np.mean(returns)) if returns else None
        rows.append(
            [named("source", arm, t), f"{count:,}", number(mean), f"{overview.violations[arm]:,}"]
        )
    columns = ("arm", "count", "mean", "violations")
    return _section("episodes", [_table("episodes", columns, rows, t)], t)


def shadow(overview: Overview, t: Texts) -> Section:
    """Return how the candidate answered in shadow, and how its actions differ."""
    failures = sum(overview.failures.values())
    counted = [
        [t("shadow.answers"), f"{overview.answers:,}"],
        [t("shadow.dropped"), f"{overview.dropped:,}"],
        [t("shadow.failures"), f"{failures:,}"],
        *(
            [t("shadow.would") + t("list.colon") + named("trigger", name, t), f"{count:,}"]
            for name, count in overview.would_violate.most_common()
        ),
    ]
    tables = []
    if overview.answers or failures or overview.dropped:
        tables.append(_table("shadow", ("what", "number"), counted, t))
    if overview.differences:
        table = np.array(
            [row for row in overview.differences if len(row) == len(overview.differences[-1])]
        )
        columns = zip(
            np.nanmean(table, axis=0),
            np.nanmean(np.abs(table), axis=0),
            np.nanmax(np.abs(table), axis=0),
            strict=True,
        )
        rows = [
            [str(dimension), *(number(float(value)) for value in values)]
            for dimension, values in enumerate(columns)
        ]
        tables.append(_table("shadow", ("dimension", "mean", "size", "most"), rows, t))
    caption = t("shadow.caption", count=f"{len(overview.differences):,}")
    return _section("shadow", tables, t, caption=caption if overview.differences else None)


def history(overview: Overview, t: Texts) -> Section:
    """Return every change of stage with who made it, and why."""
    rows = []
    for change in overview.stages:
        after = named("short", change["to"], t)
        if change.get("from") is None:
            moved = t("history.begun", to=after)
        else:
            moved = t("history.moved", **{"from": named("short", change["from"], t), "to": after})
        rows.append(
            [moment(change["time"]), moved, change.get("by", DASH), change.get("reason", DASH)]
        )
    columns = ("time", "change", "by", "reason")
    table = Table([t(f"history.{column}") for column in columns], rows, "prose")
    return _section("history", [table], t)


def _table(name: str, columns: Iterable[str], rows: Sequence[Sequence[str]], t: Texts) -> Table:
    return Table([t(f"{name}.{column}") for column in columns], rows)


def _section(name: str, tables: Sequence[Table], t: Texts, caption: str | None = None) -> Section:
    filled = [table for table in tables if table.rows]
    none = t(f"{name}.none")
    return Section(name, t(f"page.{name}"), filled, none, caption or "")
