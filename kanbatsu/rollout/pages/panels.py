"""Figures of a rollout's page: latency, drift and returns over time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kanbatsu.report.figures import STYLES, Line, Style, key, lines
from kanbatsu.report.language import Texts
from kanbatsu.rollout.pages.overview import Overview, binned

GREY, BLUE, RED, GREEN = STYLES[:4]


@dataclass(frozen=True)
class Panel:
    """One drawing with its title, one line on how to read it, and what its lines mean."""

    title: str
    caption: str
    svg: str
    key: tuple[tuple[str, str], ...]


def panels(overview: Overview, deadline_us: float | None, t: Texts) -> list[Panel]:
    """Return the figures that there are data for.

    Args:
        overview: numbers of the rollout.
        deadline_us: microseconds within which an answer must be there, where that is known.
        t: texts of the page.
    """
    made = (_latency(overview, deadline_us, t), _drift(overview, t), _returns(overview, t))
    return [panel for panel in made if panel is not None]


def _latency(overview: Overview, deadline_us: float | None, t: Texts) -> Panel | None:
    drawn: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray, Style]] = {}
    for who, series, style in (
        ("service", overview.latencies, BLUE),
        ("shadow", overview.shadow_latencies, GREEN),
    ):
        if series:
            bins = binned(series, overview.first or 0.0)
            median, p99 = bins["median"] / 1e3, bins["p99"] / 1e3
            name = t(f"latency.{who}")
            drawn[f"{name}, {t('latency.median')}"] = (bins["seconds"], median, median, style)
            dashed = Style(style.color, style.marker, ":")
            drawn[f"{name}, {t('latency.p99')}"] = (bins["seconds"], p99, p99, dashed)
    if not drawn:
        return None
    if deadline_us is not None:
        ends = np.concatenate([x for x, *_ in drawn.values()])
        x = np.array([ends.min(), ends.max()])
        drawn[t("latency.deadline")] = (x, *2 * (np.full(2, deadline_us / 1e3),), RED)
    return _panel("latency", {n: (x, y, y, y, s) for n, (x, y, _, s) in drawn.items()}, t)


def _drift(overview: Overview, t: Texts) -> Panel | None:
    if not overview.drift:
        return None
    drawn = {}
    styles = {"shift": BLUE, "mahalanobis": GREEN, "saturation": STYLES[4]}
    for statistic, series in overview.drift.items():
        bins = binned(series, overview.first or 0.0)
        high = bins["high"]
        drawn[t(f"drift.{statistic}")] = (bins["seconds"], high, high, high, styles[statistic])
    ends = np.concatenate([x for x, *_ in drawn.values()])
    x, one = np.array([ends.min(), ends.max()]), np.ones(2)
    drawn[t("drift.threshold")] = (x, one, one, one, RED)
    return _panel("drift", drawn, t)


def _returns(overview: Overview, t: Texts) -> Panel | None:
    drawn = {}
    for arm, style in (("incumbent", GREY), ("candidate", BLUE)):
        if overview.returns.get(arm):
            bins = binned(overview.returns[arm], overview.first or 0.0, count=24)
            row = (bins["seconds"], bins["mean"], bins["low"], bins["high"], style)
            drawn[t(f"source.{arm}")] = row
    return _panel("episodes", drawn, t) if drawn else None


def _panel(
    name: str,
    drawn: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, Style]],
    t: Texts,
) -> Panel:
    last = max(float(x[-1]) for x, *_ in drawn.values())
    size, unit = _unit(last)
    curves = [
        Line(x / size, mean, low, high, Style(style.color, "", style.dash))
        for x, mean, low, high, style in drawn.values()
    ]
    keys = tuple((key(row[4]), text) for text, row in drawn.items())
    title = t(f"page.{name}")
    svg = lines(
        curves, x_label=t(f"figure.x_{unit}"), prefix=name, label=title, empty=t("figure.empty")
    )
    return Panel(title, t(f"{name}.caption"), svg, keys)


def _unit(seconds: float) -> tuple[float, str]:
    if seconds >= 2 * 3600:
        return 3600.0, "hours"
    return (60.0, "minutes") if seconds >= 120 else (1.0, "seconds")
