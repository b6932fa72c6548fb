"""Measures beside the return: their values with intervals, and what a rule requires of them.

Runs are independent, episodes of one run are not. A mean has the bootstrap interval over runs of
`kanbatsu.report.stats`. A rate has the exact interval of the binomial distribution with as many
episodes as are worth that many independent ones; where all episodes agree nothing shows how much
those of one run depend on each other, and the runs alone count.

Reference: E. Korn and B. Graubard 1998, "Confidence intervals for proportions with small expected
number of positive counts estimated from survey data", Survey Methodology 24.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import betaincinv, stdtrit

from kanbatsu.report import stats, words
from kanbatsu.report.results import ArmResults, StudyResults

SUCCESS = "success_rate"
"""Measure that every environment with success in its `info` has."""


def is_rate(name: str) -> bool:
    """Return whether a measure is a share of episodes.

    Example:
        >>> is_rate("any:violation"), is_rate("service_level")
        (True, False)
    """
    return name == SUCCESS or name.startswith("any:")


def measured(arm: ArmResults, task: str, name: str) -> list[np.ndarray]:
    """Return the numbers of the last evaluation's episodes, one array for each finished run."""
    found = (run.measures.get(name) for run in arm.on(task) if run.finished)
    return [np.array(values, dtype=float) for values in found if values]


def value_of(runs: Sequence[np.ndarray], rate: bool, confidence: float = 0.95) -> dict[str, Any]:
    """Return the mean over runs and its interval, for JSON.

    Args:
        runs: Numbers of episodes, one array for each run.
        rate: True where they are 0 or 1.
        confidence: Confidence of the two-sided interval of a rate; that of a mean is 95 %.

    Example:
        >>> value_of([np.ones(10), np.ones(10), np.ones(10)], rate=True)["interval"]
        [0.2924..., 1.0]
    """
    if not runs:
        return {"value": None, "interval": None}
    means = np.array([run.mean() for run in runs])
    value = float(means.mean())
    if rate:
        return {"value": value, "interval": list(rate_interval(runs, confidence))}
    if len(runs) < 2:
        return {"value": value, "interval": None}
    drawn = np.random.default_rng(0).integers(len(means), size=(stats.SAMPLES, len(means)))
    tail = 50 * (1 - confidence)
    low, high = np.percentile(means[drawn].mean(axis=1), [tail, 100 - tail])
    return {"value": value, "interval": [float(low), float(high)]}


def rate_interval(runs: Sequence[np.ndarray], confidence: float) -> tuple[float, float]:
    """Return the exact interval of a rate, with the episodes that clustered ones are worth.

    Args:
        runs: Zeros and ones, one array for each run.
        confidence: Confidence of the two-sided interval.

    Example:
        >>> low, high = rate_interval([np.array([1.0, 0.0, 1.0, 0.0])] * 4, 0.95)
        >>> round(low, 2), round(high, 2)
        (0.14, 0.86)
    """
    means = np.array([run.mean() for run in runs])
    episodes = float(sum(run.size for run in runs))
    rate = float(means.mean())
    worth, tail = float(len(runs)), (1 - confidence) / 2
    if 0 < rate < 1 and len(runs) > 1:
        spread = float(means.var(ddof=1)) / len(runs)
        worth = min(max(rate * (1 - rate) / spread, 1.0), episodes) if spread else episodes
        # The spread of so few runs is not known exactly: Student's t against that of all episodes.
        known = stdtrit(np.array([episodes - 1, len(runs) - 1.0]), 1 - tail)
        worth *= float(known[0] / known[1]) ** 2
    hits = rate * worth
    low = float(betaincinv(hits, worth - hits + 1, tail)) if hits > 0 else 0.0
    high = float(betaincinv(hits + 1, worth - hits, 1 - tail)) if hits < worth else 1.0
    return low, high


def summary_of(study: StudyResults) -> dict[str, Any]:
    """Return every measure of a study by arm and task; nothing where it has none."""
    if not study.measures:
        return {}
    return {
        "measures": {
            arm.name: {
                task: {
                    name: value_of(measured(arm, task, name), is_rate(name))
                    for name in study.measures
                }
                for task in study.tasks
            }
            for arm in study.arms
        }
    }


def requirement_obstacles(
    arm: ArmResults, tasks: Iterable[str], rule: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Say which measures are not shown to be where a rule requires them, on any task.

    Args:
        arm: The arm.
        tasks: Tasks of the study.
        rule: A `kanbatsu.study.rule.DecisionRule` as a table.
    """
    obstacles = []
    for asked in rule.get("requires") or ():
        name = asked["measure"]
        for task in tasks:
            found = value_of(measured(arm, task, name), is_rate(name), rule["confidence"])
            low, high = found["interval"] or (-math.inf, math.inf)
            at_least, at_most = asked.get("at_least"), asked.get("at_most")
            checks = []
            if at_least is not None:
                checks.append((at_least, low >= at_least, high < at_least))
            if at_most is not None:
                checks.append((at_most, high <= at_most, low > at_most))
            for limit, shown, ruled_out in checks:
                if not shown:
                    kind = "requirement_broken" if ruled_out else "requirement_open"
                    ends = found["interval"] or (None, None)
                    where = {"measure": name, "task": task, "threshold": limit}
                    obstacles.append({"kind": kind, **where, "low": ends[0], "high": ends[1]})
    return obstacles


def measure_rows(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what the page's table says of every measure: a row for each, on each task."""
    tables = summary.get("measures") or {}
    arms = list(tables)
    first: Mapping[str, Any] = tables[arms[0]] if arms else {}
    return [
        {
            "name": f"{name}, {task}" if len(first) > 1 else name,
            "values": [
                words.with_interval(found["value"], found["interval"])
                for found in (tables[arm][task][name] for arm in arms)
            ],
        }
        for task, names in first.items()
        for name in names
    ]
