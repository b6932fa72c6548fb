"""From runs to what drawings take: one look per arm, and series averaged over seeds and tasks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float

from kanbatsu.report import stats
from kanbatsu.report.figures import STYLES, Interval, Line, Style
from kanbatsu.report.results import RunResults, Series, StudyResults
from kanbatsu.report.summary import DMC_SCALE, generator

Item = TypeVar("Item")
Axis = Callable[[Sequence[RunResults], Float[np.ndarray, " points"]], Float[np.ndarray, " points"]]
"""A function from runs and env steps to where those lie on another axis; NaN where unknown."""


def styles(study: StudyResults) -> dict[str, Style]:
    """Give each arm one look for the whole page; the control's is always the same."""
    others = [arm.name for arm in study.arms if arm.name != study.control]
    looks = {name: STYLES[1:][index % (len(STYLES) - 1)] for index, name in enumerate(others)}
    return {arm.name: looks.get(arm.name, STYLES[0]) for arm in study.arms}


def known(items: Iterable[Item | None]) -> list[Item]:
    """Return the items that there are."""
    return [item for item in items if item is not None]


def lines(
    study: StudyResults,
    tasks: Sequence[str],
    series_of: Callable[[RunResults], Series],
    axis: Axis | None = None,
) -> list[Line]:
    """Return the `line` of each arm that has one, over some of the study's tasks."""
    looks = styles(study)
    return known(
        line([arm.on(task) for task in tasks], series_of, looks[arm.name], axis)
        for arm in study.arms
    )


def line(
    runs_by_task: Sequence[Sequence[RunResults]],
    series_of: Callable[[RunResults], Series],
    style: Style,
    axis: Axis | None = None,
) -> Line | None:
    """Average one series over seeds and tasks.

    Args:
        runs_by_task: The runs of one arm; a task on which none has the series is left out.
        series_of: From a run to its values by env steps.
        style: The arm's look.
        axis: Where env steps lie on the axis; by default they are the axis.

    Returns:
        None where no point is known.
    """
    series = [[series_of(run) for run in runs] for runs in runs_by_task]
    series = [task for task in series if any(task)]
    at = sorted({x for task in series for run in task for x in run})
    if not at:
        return None
    curve = stats.mean_curve([_matrix(task, at) for task in series], generator())
    x = np.array(at, dtype=float)
    if axis is not None:
        x = axis([run for runs in runs_by_task for run in runs], x)
    there = ~np.isnan(curve.mean) & ~np.isnan(x)
    if not there.any():
        return None
    return Line(x[there], curve.mean[there], curve.low[there], curve.high[there], style)


def along_seconds(
    runs: Sequence[RunResults], env_steps: Float[np.ndarray, " points"]
) -> Float[np.ndarray, " points"]:
    """Return the seconds after which runs had come so far, in the median; an `Axis`."""
    clocks = [run.timing for run in runs if run.timing]
    if not clocks:
        return np.full(env_steps.shape, np.nan)
    each = [
        np.interp(
            env_steps,
            [0, *(record["env_steps"] for record in clock)],
            [0.0, *(record["seconds"] for record in clock)],
        )
        for clock in clocks
    ]
    return np.median(each, axis=0)


def along_flops(
    runs: Sequence[RunResults], env_steps: Float[np.ndarray, " points"]
) -> Float[np.ndarray, " points"]:
    """Return the operations that runs had done by then, in the median; an `Axis`."""
    counted = [[run.flops.get(int(x), math.nan) for x in env_steps] for run in runs if run.flops]
    if not counted:
        return np.full(env_steps.shape, np.nan)
    each = np.array(counted)
    there = ~np.isnan(each).all(axis=0)
    flops = np.full(env_steps.shape, np.nan)
    flops[there] = np.nanmedian(each[:, there], axis=0)
    return flops


def finals(summary: Mapping[str, Any], task: str, looks: Mapping[str, Style]) -> list[Interval]:
    """Return the final returns of every arm on one task, over its kept weights."""
    return known(
        interval(
            arm["name"],
            (on := arm["tasks"][task]),
            looks,
            seeds=tuple(on["returns"].values()),
            x=kept_weights(on["networks"]),
        )
        for arm in summary["arms"]
    )


def by_sparsity(summary: Mapping[str, Any], task: str) -> list[Interval]:
    """Return the final returns on one task over the dense network's weights, by sparsity.

    Arms of one sparsity, to the hundredth and over all networks, have one label and one look, and
    stand in the order of their size.
    """
    sized = []
    for arm in summary["arms"]:
        networks = arm["tasks"][task]["networks"].values()
        if networks and all(network["total"] for network in networks):
            total = sum(network["total"] for network in networks)
            kept = sum(network["kept"] for network in networks)
            sized.append((round(1 - kept / total, 2), total, arm))
    sized.sort(key=lambda row: row[:2])
    looks = dict(zip(dict.fromkeys(row[0] for row in sized), STYLES, strict=False))
    rows = [
        interval(
            f"S = {sparsity:g}", arm["tasks"][task], {f"S = {sparsity:g}": looks[sparsity]}, x=total
        )
        for sparsity, total, arm in sized
        if sparsity in looks
    ]
    return known(rows)


def pooled(summary: Mapping[str, Any], looks: Mapping[str, Style]) -> list[Interval]:
    """Return the arms that have a result on every task, where tasks may be averaged at all."""
    return known(
        interval(
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
    )


def interval(
    label: str,
    estimate: Mapping[str, Any],
    looks: Mapping[str, Style],
    seeds: tuple[float, ...] = (),
    x: int | None = None,
) -> Interval | None:
    """Return an estimate of the summary as something to draw; None where there is no value."""
    names = ("iqm", "probability_of_improvement", "value")
    value = next((estimate[name] for name in names if name in estimate), None)
    if value is None:
        return None
    low, high = estimate["interval"] or (math.nan, math.nan)
    return Interval(label, value, low, high, looks[label], seeds, float(x or 0))


def kept_weights(networks: Mapping[str, Mapping[str, Any]]) -> int | None:
    """Return the kept weights of all networks together, or None where one is not known.

    Example:
        >>> kept_weights({"actor": {"kept": 10}, "critic": {"kept": 90}})
        100
    """
    counts = [network["kept"] for network in networks.values()]
    return sum(counts) if counts and None not in counts else None


def _matrix(runs: Sequence[Series], axis: Sequence[int]) -> Float[np.ndarray, "runs points"]:
    values = [[run.get(x, math.nan) for x in axis] for run in runs]
    return np.array(values, dtype=float).reshape(len(runs), len(axis))
