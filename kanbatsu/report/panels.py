"""Which figures a study gets: from its results to titled panels, in the order of the page."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kanbatsu.report import curves, figures
from kanbatsu.report.figures import Interval, Style
from kanbatsu.report.glossary import PROBES
from kanbatsu.report.judge import threshold_of
from kanbatsu.report.language import Texts
from kanbatsu.report.reasons import size
from kanbatsu.report.results import StudyResults

NETWORKS = ("actor", "critic", "classifier")


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
        finals = curves.finals(summary, task, looks)
        panels = {
            "env_steps": _over(study, task, "curves", "env_steps", None, index, t),
            "flops": _over(study, task, "flops_axis", "flops", curves.along_flops, index, t),
            "time": _over(study, task, "seconds_axis", "seconds", curves.along_seconds, index, t),
            "kept": _against_weights(finals, t("figure.final_return"), index, task, t),
            "size": _against_size(summary, task, index, t),
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
    compared = curves.known(curves.interval(it["arm"], it, looks) for it in summary["comparisons"])
    if compared:
        panels.append(
            _panel(
                functools.partial(figures.intervals, limits=(-0.02, 1.02), reference=0.5),
                compared,
                ("improvements", "improvement", t("figure.improvement")),
                t,
                control=summary["control"],
            )
        )
    if len(study.tasks) > 1:
        for index, task in enumerate(study.tasks):
            panels[index] = replace(panels[index], title=f"{panels[index].title}: {task}")
    return [Row("", "", tuple(panels))]


def effect_panel(verdict: Mapping[str, Any], looks: Mapping[str, Style], t: Texts) -> Panel | None:
    """Draw the effect of each arm that the verdict compared, beside the rule's threshold."""
    candidates = verdict.get("candidates") or [verdict]
    rows = curves.known(curves.interval(it["arm"], it["effect"], looks) for it in candidates)
    if not rows:
        return None
    relative = verdict["effect"]["measure"].endswith("relative")
    measure = t("figure.score_share" if relative else "figure.score_difference")
    threshold = threshold_of(verdict["rule"])
    name = t("figure.threshold", value=size(threshold, verdict["effect"]["measure"], t))
    draw = functools.partial(figures.intervals, reference=threshold, reference_name=name)
    names = ("effects", "effects", measure)
    return _panel(draw, rows, names, t, control=verdict["control"], measure=measure)


def probe_rows(study: StudyResults, t: Texts) -> list[Row]:
    """Return one row per probe that any run recorded, its networks side by side."""
    recorded = {probe for run in study.runs for probe in run.probes if probe.count("/") == 1}
    names = {probe.partition("/")[2] for probe in recorded}
    rows = []
    for name in [*(n for n in PROBES if n in names), *sorted(names - set(PROBES))]:
        known = name in PROBES
        title = t(f"probe.{name}.title") if known else name
        panels = [
            _probe(study, f"{network}/{name}", title, t)
            for network in NETWORKS
            if f"{network}/{name}" in recorded
        ]
        rows.append(Row(title, t(f"probe.{name}.text") if known else "", tuple(panels)))
    return rows


def _over(
    study: StudyResults,
    task: str,
    name: str,
    axis_name: str,
    axis: curves.Axis | None,
    index: int,
    t: Texts,
) -> Panel | None:
    """Draw the evaluations of every arm over one axis; None where no run knows it."""
    drawn = curves.lines(study, [task], lambda run: run.returns, axis)
    if not drawn and axis is not None:
        return None
    names = (name, f"{name}{index}", t(f"figure.{axis_name}"))
    return _panel(figures.lines, drawn, names, t, task=task)


def _probe(study: StudyResults, probe: str, title: str, t: Texts) -> Panel:
    network = probe.partition("/")[0]
    svg = figures.lines(
        curves.lines(study, study.tasks, lambda run: run.probes.get(probe, {})),
        x_label=t("figure.env_steps"),
        prefix=f"probe-{probe.replace('/', '-')}",
        label=t("figure.probe.label", probe=title, network=t(f"network.{network}")),
        empty=t("figure.empty"),
    )
    return Panel(t(f"network.{network}_title"), "", svg)


def _intervals(
    rows: Sequence[Interval], measure: str, index: int | str, where: str, t: Texts
) -> Panel:
    names = ("iqm", f"final{index}", measure)
    return _panel(figures.intervals, rows, names, t, measure=measure, where=where)


def _against_weights(
    rows: Sequence[Interval], measure: str, index: int | str, where: str, t: Texts
) -> Panel:
    rows = [row for row in rows if row.x > 0]
    names = ("weights", f"weights{index}", t("figure.kept_weights"))
    return _panel(figures.against, rows, names, t, measure=measure, where=where)


def _against_size(summary: Mapping[str, Any], task: str, index: int, t: Texts) -> Panel | None:
    """Draw one line per sparsity over the dense network's weights; None where there are not two."""
    rows = curves.by_sparsity(summary, task)
    sizes = {name: [row.x for row in rows if row.label == name] for name in {r.label for r in rows}}
    lines = [x for x in sizes.values() if len(x) > 1]
    if len(lines) < 2 or any(len(set(x)) < len(x) for x in sizes.values()):
        return None
    draw = functools.partial(figures.against, joined=True)
    names = ("size", f"size{index}", t("figure.total_weights"))
    return _panel(draw, rows, names, t, measure=t("figure.final_return"), where=task)


def _panel(
    draw: Callable[..., str],
    data: Sequence[Any],
    names: tuple[str, str, str],
    t: Texts,
    **values: str,
) -> Panel:
    """Draw data with the texts `figure.<name>`.

    Args:
        draw: One of the drawings of `kanbatsu.report.figures`.
        data: Curves, points or rows.
        names: Name of the texts, prefix of ids, and title of the x axis.
        t: The texts.
        values: Values for their places.
    """
    name, prefix, x_label = names
    label, empty = t(f"figure.{name}.label", **values), t("figure.empty")
    svg = draw(data, x_label=x_label, prefix=prefix, label=label, empty=empty)
    return Panel(t(f"figure.{name}.title", **values), t(f"figure.{name}.text", **values), svg)
