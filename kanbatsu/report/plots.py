"""Figures of a study for notebooks and papers: the report's drawings as figures of matplotlib."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from kanbatsu.report import curves
from kanbatsu.report.figures import Style, draw_lines, draw_rows
from kanbatsu.report.language import Texts
from kanbatsu.report.results import RunResults, Series, StudyResults

WIDTH, HEIGHT, ROW = 4.6, 3.2, 0.62
"""Inches of a panel, and in the height of one row of intervals."""
# A setting's name is a literal type in recent matplotlib and a plain string before.
SETTINGS: Any = {"svg.fonttype": "none", "svg.hashsalt": "kanbatsu", "text.parse_math": False}
"""Text stays text, equal figures are equal files, and a dollar in an arm's name is a dollar."""


class Drawing(Figure):
    """A figure of matplotlib that a notebook shows whether or not pyplot is in use."""

    def _repr_svg_(self) -> str:
        stream = io.StringIO()
        with matplotlib.rc_context(SETTINGS):
            self.savefig(stream, format="svg", bbox_inches="tight", metadata={"Date": None})
        return stream.getvalue()


def over_env_steps(
    study: StudyResults, series_of: Callable[[RunResults], Series], y_label: str, t: Texts
) -> Drawing:
    """Draw one series of every arm over env steps: means over seeds with 95 % intervals.

    Args:
        study: The runs.
        series_of: Function from a run to its values by env steps.
        y_label: What the values are.
        t: The texts.

    Returns:
        A figure with one panel per task, and the arms' names below.
    """

    def draw(axes: Axes, task: str) -> None:
        drawn = curves.lines(study, [task], series_of)
        draw_lines(axes, drawn, t("figure.env_steps"), t("figure.empty"))
        axes.set_ylabel(y_label)
        axes.grid(visible=True, axis="y", alpha=0.13, linewidth=1)

    return _panels(study.tasks, draw, HEIGHT, curves.styles(study))


def final_returns(study: StudyResults, summary: Mapping[str, Any], t: Texts) -> Drawing:
    """Draw the final returns of every arm: the IQM with its interval, and every run.

    Args:
        study: The runs.
        summary: What `summarise` made of them.
        t: The texts.

    Returns:
        A figure with one panel per task and one row per arm.
    """
    looks = curves.styles(study)

    def draw(axes: Axes, task: str) -> None:
        draw_rows(axes, curves.finals(summary, task, looks), t("figure.final_return"))

    return _panels(study.tasks, draw, 0.8 + ROW * len(study.arms), {})


def _panels(
    tasks: Sequence[str],
    draw: Callable[[Axes, str], None],
    height: float,
    looks: Mapping[str, Style],
) -> Drawing:
    """Draw a panel for each task, side by side, with a legend of arms where there are looks."""
    with matplotlib.rc_context(SETTINGS):
        layout = ConstrainedLayoutEngine(w_pad=0.15)
        figure = Drawing(figsize=(WIDTH * len(tasks), height), layout=layout)
        for axes, task in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
            draw(axes, task)
            axes.set_title(task, fontsize="medium")
            axes.spines[["top", "right", "left"]].set_visible(False)
            axes.tick_params(length=0)
        if looks:
            handles = [_handle(style) for style in looks.values()]
            columns = max(1, min(len(looks), 2 * len(tasks)))
            figure.legend(
                handles, list(looks), loc="outside lower center", ncols=columns, frameon=False
            )
    return figure


def _handle(style: Style) -> Line2D:
    look: dict[str, Any] = {"color": style.color, "linestyle": style.dash, "marker": style.marker}
    return Line2D([], [], markersize=5, **look)
