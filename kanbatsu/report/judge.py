"""One arm beside the control: its effect, the decision, and what would overturn it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from kanbatsu.report import effect as effects
from kanbatsu.report import power, stats
from kanbatsu.report.conditions import (
    failure_obstacles,
    incumbent_obstacles,
    pairs,
    seeds_for_failures,
    seeds_to_beat,
)
from kanbatsu.report.failures import Failures, failures
from kanbatsu.report.measures import requirement_obstacles
from kanbatsu.report.results import ArmResults

Decision = Literal["adopt", "extend", "reject"]
REJECTING = {
    "saves_nothing",
    "task_worse",
    "fails_too_often",
    "loses_to_incumbent",
    "requirement_broken",
}
"""Obstacles that reject an arm, whatever its effect over the control is."""
FEWEST = 3
"""Runs per task up to which nothing is reported about what one run less would change."""


@dataclass(frozen=True)
class Judged:
    """One arm beside the control."""

    arm: ArmResults
    decision: Decision
    seeds: int
    """Fewest finished runs on any task, of the arm or the control."""
    effect: effects.Effect
    improvement: stats.Estimate
    failures: Failures | None
    """Collapsed runs, with the failure rate that is not excluded; None where no run has ended."""
    further_seeds: int | None
    reasons: list[dict[str, Any]]
    """Reasons that keep the arm from being adopted, and those that would overturn the verdict."""


def judge(
    arm: ArmResults,
    control: ArmResults,
    tasks: Iterable[str],
    rule: Mapping[str, Any],
    comparisons: int = 1,
    incumbent: ArmResults | None = None,
) -> Judged:
    """Hold one arm against the rule.

    Args:
        arm: The arm.
        control: The arm that it is compared with.
        tasks: Tasks of the study.
        rule: A `kanbatsu.study.rule.DecisionRule` as a table.
        comparisons: Arms that are compared with the control in the same study.
        incumbent: The rule in use today, where it is to be beaten too.
    """
    tasks = list(tasks)
    x, y = scores(arm, tasks), scores(control, tasks)
    seeds = min(task.size for task in [*x, *y])
    threshold = threshold_of(rule)
    if seeds == 0:
        nowhere = np.float64(math.nan)
        nothing = effects.Effect(nowhere, nowhere, nowhere)
        unknown = stats.Estimate(math.nan, math.nan, math.nan)
        reasons = [{"kind": "too_few_seeds", "seeds": 0, "needed": rule["seeds"]}]
        return Judged(arm, "extend", 0, nothing, unknown, None, rule["seeds"], reasons)
    level = confidence_of_each(rule["confidence"], comparisons)
    between = functools.partial(effects.effect, measure=rule["measure"], confidence=level)
    effect = between(x, y)
    collapsed = failures(arm, control, tasks, rule["confidence"])
    obstacles = list(_obstacles(arm, control, tasks, x, y, rule, seeds))
    obstacles += failure_obstacles(collapsed, rule)
    beside = None if incumbent is None else pairs(arm, incumbent, tasks, rule["measure"])
    if beside is not None:
        obstacles += incumbent_obstacles(beside, level)
    obstacles += requirement_obstacles(arm, tasks, rule)
    kinds = {reason["kind"] for reason in obstacles}
    decision = decide(effect, threshold, kinds)
    further = None
    if decision == "extend":
        needed = power.seeds_needed(
            x,
            y,
            lambda each: (each.low > threshold) | (each.high < threshold),
            rule["measure"],
            level,
            at_least=max(rule["seeds"], seeds),
        )
        if beside is not None and "incumbent_not_beaten" in kinds:
            beaten = seeds_to_beat(beside, level, max(rule["seeds"], seeds))
            needed = None if needed is None or beaten is None else max(needed, beaten)
        clean = seeds_for_failures(collapsed, rule)
        if needed is not None and clean is not None:
            further = max(needed, clean) - seeds or None
    reasons = obstacles + list(_overturns(decision, kinds, between, rule, x, y))
    improvement = effects.improvement(x, y, level)
    return Judged(arm, decision, seeds, effect, improvement, collapsed, further, reasons)


def decide(effect: effects.Effect, threshold: float, obstacles: Iterable[str] = ()) -> Decision:
    """Turn an interval and what stands in the way into a decision.

    Args:
        effect: The effect with its interval; NaN ends never decide.
        threshold: See `threshold_of`.
        obstacles: Kinds of `_obstacles`.

    Example:
        >>> decide(effects.Effect(*map(np.float64, (2.0, 1.0, 3.0))), 0.5)
        'adopt'
        >>> decide(effects.Effect(*map(np.float64, (2.0, 1.0, 3.0))), 0.5, ["missing_runs"])
        'extend'
    """
    kinds = set(obstacles)
    if kinds & {"too_few_seeds", "missing_runs"}:
        return "extend"
    if kinds & REJECTING or effect.high < threshold:
        return "reject"
    return "adopt" if effect.low > threshold and not kinds else "extend"


def threshold_of(rule: Mapping[str, Any]) -> float:
    """Return the effect that an arm's whole interval must lie above to be adopted.

    Example:
        >>> threshold_of({"goal": "better", "minimum_effect": 5.0})
        5.0
        >>> threshold_of({"goal": "no_worse", "maximal_regression": 3.0})
        -3.0
    """
    if rule["goal"] == "better":
        return rule["minimum_effect"]
    return -rule["maximal_regression"]


def confidence_of_each(confidence: float, comparisons: int) -> float:
    """Return the confidence of each interval if all together are to have the rule's.

    Example:
        >>> round(confidence_of_each(0.95, 5), 6)
        0.99
    """
    return 1.0 - (1.0 - confidence) / comparisons


def scores(arm: ArmResults, tasks: Iterable[str]) -> list[np.ndarray]:
    """Return the final returns of an arm, one array of seeds per task."""
    return [arm.finals(task) for task in tasks]


def _obstacles(
    arm: ArmResults,
    control: ArmResults,
    tasks: list[str],
    x: list[np.ndarray],
    y: list[np.ndarray],
    rule: Mapping[str, Any],
    seeds: int,
) -> Iterable[dict[str, Any]]:
    """Say what keeps an arm from being adopted, whatever its effect is on average."""
    # A run that failed has no return: leaving it out would favour the arm that fails.
    missing = sum(run.final_return is None for side in (arm, control) for run in side.runs)
    if missing:
        yield {"kind": "missing_runs", "runs": missing}
    if seeds < rule["seeds"]:
        yield {"kind": "too_few_seeds", "seeds": seeds, "needed": rule["seeds"]}
    if rule["goal"] == "no_worse":
        less, more = amount(arm, rule["saves"]), amount(control, rule["saves"])
        if less is not None and more is not None and less >= more:
            yield {"kind": "saves_nothing", "what": rule["saves"], "arm": less, "control": more}
    margin = rule["maximal_regression"]
    if margin is not None and len(tasks) > 1:
        level = confidence_of_each(rule["confidence"], len(tasks))
        for task, a, b in zip(tasks, x, y, strict=True):
            effect = effects.effect([a], [b], rule["measure"], level)
            kind = "task_worse" if effect.high < -margin else "task_regression"
            if effect.value < -margin:
                value = float(effect.value)
                yield {"kind": kind, "task": task, "value": value, "threshold": -margin}


def _overturns(
    decision: Decision,
    obstacles: set[str],
    between: Callable[[list[np.ndarray], list[np.ndarray]], effects.Effect],
    rule: Mapping[str, Any],
    x: list[np.ndarray],
    y: list[np.ndarray],
) -> Iterable[dict[str, Any]]:
    """Say what would overturn a verdict: in runs, wherever it can be counted."""
    threshold = threshold_of(rule)
    value, low, high = map(number, between(x, y))
    if decision == "extend" and low is None and min(task.size for task in [*x, *y]) > 1:
        yield {"kind": "no_spread"}
        return
    if decision == "extend":
        yield {"kind": "interval", "low": low, "high": high, "threshold": threshold}
        return
    if decision == "reject" and high is not None and high < threshold:
        yield {"kind": "effect_above", "value": value, "high": high, "threshold": threshold}
    if decision == "adopt":
        # Further runs until the adoption ends: such as the control's, or, where those would speak
        # for it, such as lose twice what may be lost.
        loss = max(0.0, -2 * threshold)
        worth = [b.mean() - loss * _unit(b, rule["measure"]) for b in y]
        enough = next(
            (
                more
                for more in range(1, power.MOST_SEEDS + 1)
                if not between(_longer(x, worth, more), y).low > threshold
            ),
            None,
        )
        kind = {"kind": "seeds_losing", "loss": loss} if loss else {"kind": "seeds_like_control"}
        yield {**kind, "seeds": enough, "decision": "extend"}
    if min(task.size for task in [*x, *y]) > FEWEST:
        without = [between(*sides) for sides in _with_one_run_less(x, y)]
        changed = sum(decide(each, threshold, obstacles) != decision for each in without)
        if changed:
            yield {"kind": "one_run", "runs": changed, "of": len(without)}


def _unit(control: np.ndarray, measure: str) -> float:
    """Return how much return one unit of a measure is."""
    return abs(float(control.mean())) if measure.endswith("relative") else 1.0


def _longer(x: list[np.ndarray], worth: list[float], more: int) -> list[np.ndarray]:
    """Return an arm's runs with further ones that return what is given for each task."""
    return [np.append(a, np.full(more, value)) for a, value in zip(x, worth, strict=True)]


def _with_one_run_less(
    x: list[np.ndarray], y: list[np.ndarray]
) -> Iterable[tuple[list[np.ndarray], list[np.ndarray]]]:
    sides = (x, y)
    for side in range(2):
        for task, runs in enumerate(sides[side]):
            for run in range(runs.size):
                changed = [list(each) for each in sides]
                changed[side][task] = np.delete(runs, run)
                yield changed[0], changed[1]


def amount(arm: ArmResults, what: str) -> float | None:
    """Return what an arm has of what a rule saves: a mean over runs, for tasks differ."""
    if what == "flops":
        values = [run.total_flops for run in arm.runs if run.total_flops is not None]
    else:
        values = [
            sum(network["kept"] for network in run.networks.values())
            for run in arm.runs
            if run.networks
        ]
    return float(np.mean(values)) if values else None


def number(value: Any) -> float | None:
    """Return a number for JSON: None where it is not finite."""
    return float(value) if np.isfinite(value) else None


def estimate(value: effects.Effect | stats.Estimate) -> dict[str, Any]:
    """Return an estimate and its interval for JSON."""
    return {"value": number(value.value), "interval": interval(value.low, value.high)}


def interval(low: Any, high: Any) -> list[float] | None:
    """Return the ends of an interval for JSON: None where there is none."""
    return [float(low), float(high)] if np.isfinite(low) and np.isfinite(high) else None
