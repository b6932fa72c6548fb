"""The verdict of a study against the rule that it was started with: adopt, extend or reject.

An arm is adopted if the whole interval of its effect lies above the rule's threshold, rejected if
it lies below, and anything else asks for more seeds. With several arms each interval is widened so
that all of them hold together (Bonferroni). Nothing here reads a clock: equal results give an equal
verdict.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from kanbatsu.report import effect as effects
from kanbatsu.report.conditions import pairs
from kanbatsu.report.cost import value_per_year
from kanbatsu.report.failures import Failures, failures
from kanbatsu.report.flags import flags
from kanbatsu.report.judge import (
    Judged,
    amount,
    confidence_of_each,
    estimate,
    judge,
    number,
    scores,
)
from kanbatsu.report.results import ArmResults, StudyResults

ORDER = ("adopt", "extend", "reject")
AXES = ("env_steps", "flops", "seconds", "kept")
"""Budgets that a study's returns can be drawn against."""


def verdict(study: StudyResults) -> dict[str, Any] | None:
    """Hold a study against its decision rule: the content of `summary.json["verdict"]`.

    Of several arms the verdict is on the best: one that is adopted before one that needs more seeds
    before one that is rejected, and among equals the one with the highest effect, or, where the
    return is only not to fall, the one that keeps the fewest weights.

    Args:
        study: The runs, and the rule in `decision`.

    Returns:
        JSON values, as docs/studies.md lists them; None for a study without a rule.
    """
    rule = study.decision
    if rule is None:
        return None
    name = rule["control"] or study.control
    control = next(arm for arm in study.arms if arm.name == name)
    incumbent, beaten = study.incumbent, rule.get("beats") is not None
    allowed = rule["arms"] or [arm.name for arm in study.arms if arm is not incumbent]
    arms = [arm for arm in study.arms if arm is not control and arm.name in allowed]
    rival = incumbent if beaten else None
    judged = [judge(arm, control, study.tasks, rule, len(arms), rival) for arm in arms]
    best = min(judged, key=lambda each: _place(each, rule))
    x, y = scores(best.arm, study.tasks), scores(control, study.tasks)
    effect = _effect(best, x, y, rule)
    worth = None if study.cost is None else value_per_year(study.cost, effect)
    return {
        "decision": best.decision,
        "arm": best.arm.name,
        "control": control.name,
        "rule": {**rule, "control": control.name, "arms": [arm.name for arm in arms]},
        "effect": effect,
        **({} if worth is None else {"value_per_year": worth}),
        "probability_of_improvement": estimate(best.improvement),
        **_beside(incumbent, best.arm, study.tasks, rule, len(arms)),
        "failures": {
            "arm": _failures(best.failures),
            "control": _failures(failures(control, control, study.tasks, rule["confidence"])),
        },
        "gains": _gains(best, control, x, y, study.tasks, rule),
        "probes": _probes(best.arm, control),
        "flags": [
            flag for arm in (control, best.arm) for task in study.tasks for flag in flags(arm, task)
        ],
        "seeds": best.seeds,
        "comparisons": len(arms),
        "further_seeds": best.further_seeds,
        "overturned_by": best.reasons,
        "budget": {"matched": best.arm.matched, "axes": list(AXES)},
        "candidates": [
            {
                "arm": each.arm.name,
                "decision": each.decision,
                "effect": estimate(each.effect),
                "probability_of_improvement": estimate(each.improvement),
                "failures": _failures(each.failures),
                "seeds": each.seeds,
                "further_seeds": each.further_seeds,
            }
            for each in judged
        ],
    }


def _place(judged: Judged, rule: Mapping[str, Any]) -> tuple[Any, ...]:
    value = float(judged.effect.value)
    highest = -value if math.isfinite(value) else math.inf
    kept = amount(judged.arm, rule["saves"]) if rule["goal"] == "no_worse" else None
    return ORDER.index(judged.decision), math.inf if kept is None else kept, highest


def _beside(
    incumbent: ArmResults | None,
    arm: ArmResults,
    tasks: tuple[str, ...],
    rule: Mapping[str, Any],
    comparisons: int,
) -> dict[str, Any]:
    """Return the effect over the rule in use today; nothing where there is none."""
    if incumbent is None:
        return {}
    level = confidence_of_each(rule["confidence"], comparisons)
    found = pairs(arm, incumbent, tasks, rule["measure"]).effect(level)
    return {"incumbent": {"policy": incumbent.config["policy"], **estimate(found)}}


def _failures(counted: Failures | None) -> dict[str, Any] | None:
    if counted is None:
        return None
    return {
        "failed": counted.failed,
        "runs": counted.runs,
        "task": counted.task,
        "interval": [counted.low, counted.high],
    }


def _effect(
    best: Judged, x: list[np.ndarray], y: list[np.ndarray], rule: Mapping[str, Any]
) -> dict[str, Any]:
    relative = None
    if best.seeds:
        measure = rule["measure"].partition("_")[0] + "_relative"
        relative = number(effects.effect(x, y, measure, rule["confidence"]).value)
    return {
        "measure": rule["measure"],
        **estimate(best.effect),
        "relative": relative,
    }


def _gains(
    best: Judged,
    control: ArmResults,
    x: list[np.ndarray],
    y: list[np.ndarray],
    tasks: tuple[str, ...],
    rule: Mapping[str, Any],
) -> dict[str, Any]:
    difference = None
    if best.seeds and (len(tasks) == 1 or all(task.startswith("dmc/") for task in tasks)):
        measure = rule["measure"].partition("_")[0] + "_difference"
        difference = number(effects.effect(x, y, measure, rule["confidence"]).value)
    names = {name for side in (best.arm, control) for run in side.runs for name in run.networks}
    return {
        "return": difference,
        "networks": {
            name: {"arm": _kept(best.arm, name), "control": _kept(control, name)}
            for name in sorted(names)
        },
        **{
            what: {"arm": amount(best.arm, what), "control": amount(control, what)}
            for what in ("kept", "flops")
        },
    }


def _kept(arm: ArmResults, network: str) -> float | None:
    counts = [run.networks[network]["kept"] for run in arm.runs if network in run.networks]
    return float(np.mean(counts)) if counts else None


def _probes(arm: ArmResults, control: ArmResults) -> dict[str, dict[str, float | None]]:
    """Return each probe's last value of both, averaged over runs; of whole networks only."""

    def last(side: ArmResults, probe: str) -> float | None:
        ends = (run.last_probe(probe) for run in side.runs if run.finished)
        known = [value for value in ends if value is not None]
        return float(np.mean(known)) if known else None

    names = {name for side in (arm, control) for run in side.runs for name in run.probes}
    return {
        name: {"arm": last(arm, name), "control": last(control, name)}
        for name in sorted(names)
        if name.count("/") == 1
    }
