"""Three kinds of drawing for a report: curves over env steps, values over size, intervals in rows.

Each drawing is one small panel of a fixed shape: the page lays panels out in a grid, so they line
up on a desk and stack on a phone. Drawings know numbers and styles, never a study.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.markers import MarkerStyle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from kanbatsu.report.svg import INK, panel
from kanbatsu.report.words import compact, shorten, with_interval

HEIGHT = 188
"""Height of the axes of `lines` and `against`, in CSS pixels."""

ROW = 44
"""Height of one row of `intervals`, in CSS pixels."""


@dataclass(frozen=True)
class Style:
    """How one arm looks in every panel; shape and dash tell arms apart without colour."""

    color: str
    marker: str
    dash: str


# Okabe and Ito's colours (2008, "Color Universal Design"), darkened or lightened until each has a
# contrast of at least 3 to 1 on white and on the dark page. The first is the control's.
STYLES = (
    Style("#7f858d", "o", "--"),
    Style("#0a7cc4", "s", "-"),
    Style("#d55e00", "D", "-"),
    Style("#0a9470", "^", "-"),
    Style("#bd66a0", "v", "-"),
    Style("#a87900", "P", "-."),
    Style("#3d97c9", "X", "-."),
    Style("#c4572f", "p", "-."),
    Style("#6f9436", "h", ":"),
)


@dataclass(frozen=True)
class Line:
    """A curve with its band, in one style; NaN is left out."""

    x: Float[np.ndarray, " points"]
    mean: Float[np.ndarray, " points"]
    low: Float[np.ndarray, " points"]
    high: Float[np.ndarray, " points"]
    style: Style


@dataclass(frozen=True)
class Interval:
    """A value with its interval and the seeds behind it; `x` places it in `against`."""

    label: str
    value: float
    low: float
    high: float
    style: Style
    seeds: tuple[float, ...] = ()
    x: float = 0.0


def lines(curves: Sequence[Line], *, x_label: str, prefix: str, label: str, empty: str) -> str:
    """Draw curves over env steps, or what else a run uses up, with their bands.

    Args:
        curves: Any number of curves; with none the axes say that there are no data.
        x_label: What the axis counts.
        prefix: Starts every id in the SVG; different for each panel of a page.
        label: What a screen reader says.
        empty: Stands where there is nothing to draw.

    Returns:
        An `<svg>` element for embedding in HTML.

    Example:
        >>> drawn = lines([], x_label="env steps", prefix="a", label="b", empty="no data yet")
        >>> drawn.startswith("<svg"), "no data yet" in drawn
        (True, True)
    """
    return panel(lambda axes: draw_lines(axes, curves, x_label, empty), HEIGHT, prefix, label)


def draw_lines(axes: Axes, curves: Sequence[Line], x_label: str, empty: str) -> None:
    """Draw curves with their bands on axes; see `lines`."""
    for curve in curves:
        axes.fill_between(
            curve.x, curve.low, curve.high, color=curve.style.color, alpha=0.16, linewidth=0
        )
        axes.plot(
            curve.x,
            curve.mean,
            color=curve.style.color,
            linestyle=curve.style.dash,
            marker=curve.style.marker if len(curve.x) <= 25 else None,
            markersize=4,
            linewidth=1.8,
            clip_on=False,
        )
    axes.set_xlabel(x_label)
    axes.set_xlim(0, max((curve.x[-1] for curve in curves), default=0) or 1)
    _rest_on_zero(axes)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(FuncFormatter(compact))
    if not curves:
        _say(empty, axes)


def against(
    points: Sequence[Interval],
    *,
    x_label: str,
    prefix: str,
    label: str,
    empty: str,
    joined: bool = False,
) -> str:
    """Draw values with their intervals over a logarithmic axis; pale dots are single seeds.

    Args:
        points: One point per arm; `x` must be positive.
        x_label: What the axis counts.
        prefix: Starts every id in the SVG.
        label: What a screen reader says.
        empty: Stands where there is nothing to draw.
        joined: Flag of points that a line joins, in their order, where their label is the same; it
            stands at the last of them.
    """

    def draw(axes: Axes) -> None:
        series = {point.label: [p for p in points if p.label == point.label] for point in points}
        for name, row in series.items() if joined else ():
            last = row[-1]
            x, y = [point.x for point in row], [point.value for point in row]
            axes.plot(x, y, color=last.style.color, linestyle=last.style.dash, linewidth=1.8)
            axes.annotate(name, (last.x, last.value), (4, 5), textcoords="offset points")
        for point in points:
            color = point.style.color
            axes.plot([point.x] * len(point.seeds), point.seeds, ".", color=color, alpha=0.4, mew=0)
            axes.plot([point.x] * 2, [point.low, point.high], "-", color=color, linewidth=2)
            axes.plot(
                [point.x],
                [point.value],
                linestyle="",
                color=color,
                marker=point.style.marker,
                markersize=7,
            )
        axes.set_xlabel(x_label)
        axes.set_xscale("log")
        positions = [point.x for point in points] or [1.0]
        axes.set_xlim(min(positions) / 2, max(positions) * 2)
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=8))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(compact))
        _rest_on_zero(axes)
        if not points:
            _say(empty, axes)

    return panel(draw, HEIGHT, prefix, label)


def intervals(
    rows: Sequence[Interval],
    *,
    x_label: str,
    prefix: str,
    label: str,
    empty: str,
    limits: tuple[float, float] | None = None,
    reference: float | None = None,
    reference_name: str = "",
) -> str:
    """Draw one named interval per row; pale dots are single seeds.

    Args:
        rows: From top to bottom.
        x_label: What the axis measures.
        prefix: Starts every id in the SVG.
        label: What a screen reader says.
        empty: Stands where there is nothing to draw.
        limits: Ends of the axis; by default the data's.
        reference: Where a vertical line marks what rows are held against; it leaves their names
            free.
        reference_name: Name of that line with its value; stands over it.
    """

    def draw(axes: Axes) -> None:
        draw_rows(axes, rows, x_label, top=1.25 if reference_name else 0.95)
        if limits is not None:
            axes.set_xlim(*limits)
        if reference is not None:
            beside = [-index for index in range(len(rows))]
            low, high = [at - 0.28 for at in beside], [at + 0.22 for at in beside]
            axes.vlines([reference] * len(rows), low, high, color=INK, linewidth=1.4, alpha=0.7)
            left, right = axes.get_xlim()
            turned = "left" if reference < (left + right) / 2 else "right"
            if reference_name and rows:
                axes.annotate(reference_name, (reference, 0.82), ha=turned, va="bottom", alpha=0.75)
                axes.vlines([reference], [0.7], [0.86], color=INK, linewidth=1.4, alpha=0.7)
        if not rows:
            _say(empty, axes)

    return panel(draw, max(HEIGHT, ROW * len(rows)), prefix, label)


def draw_rows(axes: Axes, rows: Sequence[Interval], x_label: str, top: float = 0.95) -> None:
    """Draw one named interval per row on axes; see `intervals`."""
    for index, row in enumerate(rows):
        color, y = row.style.color, -index
        axes.plot([row.low, row.high], [y, y], "-", color=color, linewidth=5, alpha=0.35)
        axes.plot(row.seeds, [y] * len(row.seeds), ".", color=color, alpha=0.5, mew=0)
        axes.plot(
            [row.value], [y], linestyle="", color=color, marker=row.style.marker, markersize=7
        )
        for side, text in ((0.0, shorten(row.label, 30)), (1.0, _value_and_interval(row))):
            axes.annotate(
                text,
                (side, y + 0.3),
                xycoords=("axes fraction", "data"),
                ha="left" if side == 0 else "right",
                va="bottom",
            )
    axes.set_ylim(-len(rows) + 0.4, top)
    axes.yaxis.set_major_locator(NullLocator())
    axes.grid(visible=True, axis="x", alpha=0.13, linewidth=1)
    axes.set_xlabel(x_label)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(compact))


def key(style: Style) -> str:
    """Draw an arm's line and marker, small enough to stand beside its name in text."""
    marker = MarkerStyle(style.marker)
    shape = marker.get_path().transformed(marker.get_transform())
    points = " ".join(
        f"{14 + 7 * x:.2f},{7 - 7 * y:.2f}" for x, y in np.array(shape.to_polygons()[0])
    )
    dashes = {"-": "", "--": "5 3", "-.": "6 2 2 2", ":": "2 3"}[style.dash]
    return (
        f'<svg class="key" viewBox="0 0 28 14" aria-hidden="true" fill="{style.color}">'
        f'<path d="M0 7H28" stroke="{style.color}" stroke-width="2" stroke-dasharray="{dashes}"/>'
        f'<polygon points="{points}"/></svg>'
    )


def _value_and_interval(row: Interval) -> str:
    return with_interval(row.value, None if np.isnan(row.low) else [row.low, row.high])


def _rest_on_zero(axes: Axes) -> None:
    """Let the axis begin at zero where nothing is negative: heights can then be compared."""
    low, high = axes.dataLim.intervaly
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(compact))
    if np.isfinite([low, high]).all() and low >= 0:
        axes.set_ylim(0, high * 1.08 or 1.0)


def _say(empty: str, axes: Axes) -> None:
    axes.set_axis_off()
    axes.annotate(empty, (0.5, 0.5), xycoords="axes fraction", ha="center", alpha=0.6)
