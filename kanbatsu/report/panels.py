"""Which figures a study gets: from its results to titled panels, in the order of the page."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from kanbatsu.report import figures, stats
from kanbatsu.report.figures import STYLES, Interval, Line, Style
from kanbatsu.report.glossary import PROBES
from kanbatsu.report.results import ArmResults, RunResults, Series, StudyResults
from kanbatsu.report.summary import DMC_SCALE, generator

NETWORKS = ("actor", "critic")


@dataclass(frozen=True)
class Panel:
    """One drawing with its title and one line on how to read it."""

    title: str
    caption: str
    svg: str


@dataclass(frozen=True)
class Row:
    """Panels that belong side by side, under one heading."""

    title: str
    text: str
    panels: tuple[Panel, ...]


def styles(study: StudyResults) -> dict[str, Style]:
    """Give each arm one look for the whole page; the control's is always the same."""
    others = [arm.name for arm in study.arms if arm.name != study.control]
    looks = {name: STYLES[1:][index % (len(STYLES) - 1)] for index, name in enumerate(others)}
    return {arm.name: looks.get(arm.name, STYLES[0]) for arm in study.arms}


def return_rows(study: StudyResults, summary: Mapping[str, Any]) -> list[Row]:
    """Return a row per task, learning curves beside final returns, and one for the whole study.

    Args:
        study: The runs.
        summary: What `summarise` made of them.
    """
    looks = styles(study)
    rows = []
    for index, task in enumerate(study.tasks):
        panels = (
            _learning_curves(study, task, looks, f"learning{index}"),
            _intervals(_finals(summary, task, looks), "final return", f"final{index}", task),
        )
        rows.append(Row(task, "", panels))
    return [*rows, _overall(study, summary, looks)]


def probe_rows(study: StudyResults) -> list[Row]:
    """Return one row per probe that any run recorded: the actor beside the critic."""
    looks = styles(study)
    recorded = {probe for run in study.runs for probe in run.probes if probe.count("/") == 1}
    names = {probe.partition("/")[2] for probe in recorded}
    rows = []
    for name in [*(n for n in PROBES if n in names), *sorted(names - set(PROBES))]:
        title, text = PROBES.get(name, (name, ""))
        panels = [
            _probe(study, f"{network}/{name}", looks, title)
            for network in NETWORKS
            if f"{network}/{name}" in recorded
        ]
        rows.append(Row(title, text, tuple(panels)))
    return rows


def kept_weights(networks: Mapping[str, Mapping[str, Any]]) -> int | None:
    """Return the kept weights of all networks together, or None where one is not known.

    Example:
        >>> kept_weights({"actor": {"kept": 10}, "critic": {"kept": 90}})
        100
    """
    counts = [network["kept"] for network in networks.values()]
    return sum(counts) if counts and None not in counts else None


def _learning_curves(
    study: StudyResults, task: str, looks: Mapping[str, Style], prefix: str
) -> Panel:
    curves = [_line([arm.on(task)], lambda run: run.returns, looks[arm.name]) for arm in study.arms]
    return Panel(
        "Learning curves",
        "Mean return of each evaluation, with 95 % interval. Unfinished runs count as far as "
        "they got.",
        figures.lines(
            [curve for curve in curves if curve is not None],
            x_label="env steps",
            prefix=prefix,
            label=f"Return over env steps on {task}",
        ),
    )


def _probe(study: StudyResults, probe: str, looks: Mapping[str, Style], title: str) -> Panel:
    network = probe.partition("/")[0]
    curves = [
        _line(
            [runs for task in study.tasks if (runs := _recording(arm, task, probe))],
            lambda run: run.probes[probe],
            looks[arm.name],
        )
        for arm in study.arms
    ]
    return Panel(
        network.capitalize(),
        "",
        figures.lines(
            [curve for curve in curves if curve is not None],
            x_label="env steps",
            prefix=f"probe-{probe.replace('/', '-')}",
            label=f"{title} of the {network} over env steps",
        ),
    )


def _recording(arm: ArmResults, task: str, probe: str) -> tuple[RunResults, ...]:
    return tuple(run for run in arm.on(task) if probe in run.probes)


def _overall(study: StudyResults, summary: Mapping[str, Any], looks: Mapping[str, Style]) -> Row:
    """Return what speaks of the whole study: size, the IQM over tasks, and who beat the control."""
    pooled = _pooled(summary, looks)
    if pooled:
        panels = [
            _intervals(pooled, "return / 1000", "final-all", "all tasks"),
            _against_weights(pooled, "return / 1000", "weights-all", "all tasks"),
        ]
    else:
        panels = [
            _against_weights(_finals(summary, task, looks), "final return", f"weights{index}", task)
            for index, task in enumerate(study.tasks)
        ]
    compared = [
        row
        for comparison in summary["comparisons"]
        if (row := _interval(comparison["arm"], comparison, looks)) is not None
    ]
    if compared:
        panels.append(_improvements(compared, summary["control"]))
    return Row("Over the whole study" if len(study.tasks) > 1 else "", "", tuple(panels))


def _finals(summary: Mapping[str, Any], task: str, looks: Mapping[str, Style]) -> list[Interval]:
    rows = [
        _interval(
            arm["name"],
            arm["tasks"][task],
            looks,
            seeds=tuple(arm["tasks"][task]["returns"].values()),
            x=kept_weights(arm["tasks"][task]["networks"]),
        )
        for arm in summary["arms"]
    ]
    return [row for row in rows if row is not None]


def _pooled(summary: Mapping[str, Any], looks: Mapping[str, Style]) -> list[Interval]:
    """Return the arms that have a result on every task, where tasks may be averaged at all."""
    rows = [
        _interval(
            arm["name"],
            arm["aggregate"],
            looks,
            seeds=tuple(
                value / DMC_SCALE
                for task in arm["tasks"].values()
                for value in task["returns"].values()
            ),
            x=kept_weights(arm["networks"]),
        )
        for arm in summary["arms"]
        if arm["aggregate"]
    ]
    return [row for row in rows if row is not None]


def _improvements(rows: Sequence[Interval], control: str) -> Panel:
    return Panel(
        "Probability of improvement",
        f"How often a run of the arm returns more than a run of {control}; at 0.5 there is no "
        "difference. Bars are 95 % intervals.",
        figures.intervals(
            rows,
            x_label="probability of improvement",
            prefix="improvement",
            label=f"Probability of improvement over {control}",
            limits=(-0.02, 1.02),
            reference=0.5,
        ),
    )


def _intervals(rows: Sequence[Interval], x_label: str, prefix: str, where: str) -> Panel:
    return Panel(
        "IQM by arm",
        "The marker is the interquartile mean, the bar its 95 % interval, each dot one run.",
        figures.intervals(
            rows, x_label=x_label, prefix=prefix, label=f"IQM of the {x_label} on {where}"
        ),
    )


def _against_weights(rows: Sequence[Interval], x_label: str, prefix: str, where: str) -> Panel:
    return Panel(
        "Return against kept weights",
        f"IQM of the {x_label} on {where}, over the weights kept in actor and critic together.",
        figures.against(
            [row for row in rows if row.x > 0],
            x_label="kept weights",
            prefix=prefix,
            label=f"IQM of the {x_label} against kept weights on {where}",
        ),
    )


def _interval(
    label: str,
    estimate: Mapping[str, Any],
    looks: Mapping[str, Style],
    seeds: tuple[float, ...] = (),
    x: int | None = None,
) -> Interval | None:
    value = estimate.get("iqm", estimate.get("probability_of_improvement"))
    if value is None:
        return None
    low, high = estimate["interval"] or (math.nan, math.nan)
    return Interval(label, value, low, high, looks[label], seeds, float(x or 0))


def _line(
    runs_by_task: Sequence[Sequence[RunResults]],
    series_of: Callable[[RunResults], Series],
    style: Style,
) -> Line | None:
    """Average one series over seeds and tasks; None where no point is known."""
    series = [[series_of(run) for run in runs] for runs in runs_by_task]
    axis = sorted({x for task in series for run in task for x in run})
    if not axis:
        return None
    curve = stats.mean_curve([_matrix(task, axis) for task in series], generator())
    known = ~np.isnan(curve.mean)
    if not known.any():
        return None
    x = np.array(axis, dtype=float)[known]
    return Line(x, curve.mean[known], curve.low[known], curve.high[known], style)


def _matrix(runs: Sequence[Series], axis: Sequence[int]) -> Float[np.ndarray, "runs points"]:
    values = [[run.get(x, math.nan) for x in axis] for run in runs]
    return np.array(values, dtype=float).reshape(len(runs), len(axis))
