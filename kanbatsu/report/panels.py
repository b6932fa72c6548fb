"""Which figures a study gets: from its results to titled panels, in the order of the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kanbatsu.report import curves, figures
from kanbatsu.report.figures import Interval, Line, Style
from kanbatsu.report.glossary import PROBES
from kanbatsu.report.language import Texts
from kanbatsu.report.results import ArmResults, RunResults, StudyResults

NETWORKS = ("actor", "critic")


@dataclass(frozen=True)
class Panel:
    """One drawing with its title and one line on how to read it."""

    title: str
    caption: str
    svg: str
    matched: bool = False
    """Whether the arms were given the same of what the panel is drawn over."""


@dataclass(frozen=True)
class Row:
    """Panels that belong side by side, under one heading."""

    title: str
    text: str
    panels: tuple[Panel, ...]


def budget_rows(
    study: StudyResults, summary: Mapping[str, Any], t: Texts, matched: str | None = None
) -> list[Row]:
    """Return a row per task: the returns over each thing that a run uses up.

    Args:
        study: The runs.
        summary: What `summarise` made of them.
        t: The texts.
        matched: What the study gave its arms the same of: `env_steps`, `flops`, `time` or `kept`.
    """
    looks = curves.styles(study)
    rows = []
    for index, task in enumerate(study.tasks):
        panels = {
            "env_steps": _over(study, task, looks, t, ("curves", "env_steps", None), index),
            "flops": _over(
                study, task, looks, t, ("flops_axis", "flops", curves.along_flops), index
            ),
            "time": _over(
                study, task, looks, t, ("seconds_axis", "seconds", curves.along_seconds), index
            ),
            "kept": _against_weights(
                curves.finals(summary, task, looks), t("figure.final_return"), index, task, t
            ),
        }
        shown = [replace(panel, matched=name == matched) for name, panel in panels.items() if panel]
        rows.append(Row(task if len(study.tasks) > 1 else "", "", tuple(shown)))
    return rows


def final_rows(study: StudyResults, summary: Mapping[str, Any], t: Texts) -> list[Row]:
    """Return what speaks of final returns: by task, over all tasks, and who beat the control."""
    looks = curves.styles(study)
    panels = [
        _intervals(curves.finals(summary, task, looks), t("figure.final_return"), index, task, t)
        for index, task in enumerate(study.tasks)
    ]
    together = curves.pooled(summary, looks)
    if together:
        measure, where = t("figure.scaled_return"), t("figure.all_tasks")
        panels += [
            _intervals(together, measure, "all", where, t),
            _against_weights(together, measure, "all", where, t),
        ]
    compared = [
        row
        for comparison in summary["comparisons"]
        if (row := curves.interval(comparison["arm"], comparison, looks)) is not None
    ]
    if compared:
        panels.append(_improvements(compared, summary["control"], t))
    if len(study.tasks) > 1:
        for index, task in enumerate(study.tasks):
            panels[index] = replace(panels[index], title=f"{panels[index].title}: {task}")
    return [Row("", "", tuple(panels))]


def effect_panel(
    verdict: Mapping[str, Any], looks: Mapping[str, Style], threshold: float, t: Texts
) -> Panel | None:
    """Draw the effect of each arm that the verdict compared, beside the rule's threshold."""
    measure = verdict["effect"]["measure"]
    rows = []
    for candidate in verdict.get("candidates") or [verdict]:
        row = curves.interval(candidate["arm"], candidate["effect"], looks)
        if row is not None:
            rows.append(row)
    if not rows:
        return None
    values = {"control": verdict["control"], "measure": t(f"measure.{measure}")}
    return Panel(
        t("figure.effects.title"),
        t("figure.effects.text", **values),
        figures.intervals(
            rows,
            x_label=values["measure"],
            prefix="effects",
            label=t("figure.effects.label", control=verdict["control"]),
            empty=t("figure.empty"),
            reference=threshold,
        ),
    )


def probe_rows(study: StudyResults, t: Texts) -> list[Row]:
    """Return one row per probe that any run recorded: the actor beside the critic."""
    looks = curves.styles(study)
    recorded = {probe for run in study.runs for probe in run.probes if probe.count("/") == 1}
    names = {probe.partition("/")[2] for probe in recorded}
    rows = []
    for name in [*(n for n in PROBES if n in names), *sorted(names - set(PROBES))]:
        known = name in PROBES
        title = t(f"probe.{name}.title") if known else name
        panels = [
            _probe(study, f"{network}/{name}", looks, title, t)
            for network in NETWORKS
            if f"{network}/{name}" in recorded
        ]
        rows.append(Row(title, t(f"probe.{name}.text") if known else "", tuple(panels)))
    return rows


def _over(
    study: StudyResults,
    task: str,
    looks: Mapping[str, Style],
    t: Texts,
    what: tuple[str, str, curves.Axis | None],
    index: int,
) -> Panel | None:
    """Draw the evaluations of every arm over one axis; None where no run knows it."""
    key, axis_key, axis = what
    found = [
        curves.line([arm.on(task)], lambda run: run.returns, looks[arm.name], axis)
        for arm in study.arms
    ]
    drawn = [curve for curve in found if curve is not None]
    if not drawn and axis is not None:
        return None
    return _curves(
        drawn,
        f"{key}{index}",
        t(f"figure.{axis_key}"),
        (t(f"figure.{key}.title"), t(f"figure.{key}.text"), t(f"figure.{key}.label", task=task)),
        t,
    )


def _probe(
    study: StudyResults, probe: str, looks: Mapping[str, Style], title: str, t: Texts
) -> Panel:
    network = probe.partition("/")[0]
    found = [
        curves.line(
            [runs for task in study.tasks if (runs := _recording(arm, task, probe))],
            lambda run: run.probes[probe],
            looks[arm.name],
        )
        for arm in study.arms
    ]
    label = t("figure.probe.label", probe=title, network=t(f"network.{network}"))
    return _curves(
        [curve for curve in found if curve is not None],
        f"probe-{probe.replace('/', '-')}",
        t("figure.env_steps"),
        (t(f"network.{network}_title"), "", label),
        t,
    )


def _curves(
    drawn: Sequence[Line], prefix: str, x_label: str, said: tuple[str, str, str], t: Texts
) -> Panel:
    title, caption, label = said
    svg = figures.lines(drawn, x_label=x_label, prefix=prefix, label=label, empty=t("figure.empty"))
    return Panel(title, caption, svg)


def _recording(arm: ArmResults, task: str, probe: str) -> tuple[RunResults, ...]:
    return tuple(run for run in arm.on(task) if probe in run.probes)


def _improvements(rows: Sequence[Interval], control: str, t: Texts) -> Panel:
    return Panel(
        t("figure.improvements.title"),
        t("figure.improvements.text", control=control),
        figures.intervals(
            rows,
            x_label=t("figure.improvement"),
            prefix="improvement",
            label=t("figure.improvements.label", control=control),
            empty=t("figure.empty"),
            limits=(-0.02, 1.02),
            reference=0.5,
        ),
    )


def _intervals(
    rows: Sequence[Interval], measure: str, index: int | str, where: str, t: Texts
) -> Panel:
    return Panel(
        t("figure.iqm.title"),
        t("figure.iqm.text"),
        figures.intervals(
            rows,
            x_label=measure,
            prefix=f"final{index}",
            label=t("figure.iqm.label", measure=measure, where=where),
            empty=t("figure.empty"),
        ),
    )


def _against_weights(
    rows: Sequence[Interval], measure: str, index: int | str, where: str, t: Texts
) -> Panel:
    return Panel(
        t("figure.weights.title"),
        t("figure.weights.text", measure=measure, where=where),
        figures.against(
            [row for row in rows if row.x > 0],
            x_label=t("figure.kept_weights"),
            prefix=f"weights{index}",
            label=t("figure.weights.label", measure=measure, where=where),
            empty=t("figure.empty"),
        ),
    )
