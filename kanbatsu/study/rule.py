"""The decision rule of a study: what would count as an answer, written down before the runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from kanbatsu.files.tables import ADDED, did_you_mean
from kanbatsu.report.failures import clean_seeds
from kanbatsu.report.results import INCUMBENT

Measure = Literal["mean_difference", "mean_relative", "iqm_difference", "iqm_relative"]


@dataclass(frozen=True)
class Requirement:
    """A limit of one measure of the evaluation episodes."""

    measure: str
    """The measure, as the study's `measures` name it, or success_rate."""
    at_least: float | None = None
    """Lowest value: the measure's whole interval must lie above it."""
    at_most: float | None = None
    """Highest value: the measure's whole interval must lie below it."""


@dataclass(frozen=True)
class DecisionRule:
    """When an arm is adopted instead of the control, and when it is rejected."""

    goal: Literal["better", "no_worse"] = "better"
    """What an arm must show. `better`: a return higher by more than `minimum_effect`. `no_worse`: a
    return lower by less than `maximal_regression`, from less of what `saves` names."""
    measure: Measure = "mean_difference"
    """The effect: the difference of the mean (or IQM) final returns, in the task's own unit, or as
    a share of the control's. The mean decides with fewer seeds; the IQM is not moved by one run."""
    minimum_effect: float = 0.0
    """The effect from which on adopting is worth while; in the unit of `measure`."""
    maximal_regression: float | None = None
    """How much lower the return may be, in the unit of `measure`: on average for `no_worse`, where
    it must be given, and on any single task for both."""
    saves: Literal["kept", "flops"] = "kept"
    """What an arm that is no worse must have less of: kept weights, or operations of a run."""
    confidence: float = 0.95
    """Confidence of the two-sided interval of all arms together: each arm's own is wider."""
    max_failure_rate: float | None = None
    """Highest share of collapsed runs that an arm may have on any task: it is adopted only where
    its runs exclude a higher one. None asks for no bound, and the report says what is excluded."""
    seeds: int = 5
    """Fewest seeds per task to decide on; at least 3."""
    control: str | None = None
    """The arm to beat; the study's control by default."""
    arms: tuple[str, ...] = ()
    """The arms that may be adopted; all but the control by default."""
    requires: tuple[Requirement, ...] = field(default=(), metadata=ADDED)
    """Limits that an arm's measures must be shown to keep on every task, with the confidence."""
    beats: Literal["incumbent"] | None = field(default=None, metadata=ADDED)
    """What an arm must beat beside the control: `incumbent`, the rule in use today, by an effect
    whose whole interval is above 0."""


def rule_problems(
    rule: DecisionRule,
    control: str | None,
    arms: Iterable[str],
    tasks: Sequence[str],
    seeds: int | None = None,
) -> list[str]:
    """Say what is wrong with a rule, one line per mistake.

    Args:
        rule: As it was read.
        control: The study's.
        arms: Names of the study's arms.
        tasks: The study's.
        seeds: Number of the study's seeds; not held against the rule where None.

    Example:
        >>> rule_problems(DecisionRule(arms=("sparze",)), "dense", ["dense", "sparse"], ["a"])
        ["decision.arms: no arm is called 'sparze'. Did you mean 'sparse'?"]
    """
    known = list(arms)
    problems = [
        f"decision.{where}: no arm is called {name!r}. {did_you_mean(name, known)}"
        for where, names in (
            ("control", [rule.control] if rule.control else []),
            ("arms", rule.arms),
        )
        for name in names
        if name not in known
    ]
    against = rule.control or control
    if against is None:
        problems.append('decision: needs a control to compare with: set control = "<arm>"')
    elif against in rule.arms:
        problems.append(f"decision.arms: {against!r} is the control; name the arms that may win")
    elif not set(known) - {against, INCUMBENT}:
        problems.append("decision: needs an arm beside the control")
    if rule.beats is not None and INCUMBENT not in known:
        problems.append(
            'decision.beats: there is no rule to beat: set incumbent = "package.module:factory"'
        )
    if INCUMBENT in rule.arms:
        problems.append("decision.arms: the incumbent is in use already, and cannot be adopted")
    if rule.minimum_effect < 0:
        problems.append(
            f"decision.minimum_effect: must be at least 0, not {rule.minimum_effect}; to accept a "
            'lower return, use goal = "no_worse" and maximal_regression'
        )
    if rule.goal == "no_worse" and rule.maximal_regression is None:
        problems.append(
            'decision.maximal_regression: must be given for goal = "no_worse": how much lower may '
            "the return be?"
        )
    if rule.maximal_regression is not None and rule.maximal_regression < 0:
        problems.append(
            f"decision.maximal_regression: must be at least 0, not {rule.maximal_regression}"
        )
    if rule.goal == "no_worse" and rule.minimum_effect > 0:
        problems.append('decision.minimum_effect: is read for goal = "better" only; remove it')
    if not 0.5 <= rule.confidence < 1.0:
        problems.append(
            f"decision.confidence: must lie in [0.5, 1), such as 0.95, not {rule.confidence}"
        )
    problems += _failure_rate_problems(rule, seeds)
    if rule.seeds < 3:
        problems.append(f"decision.seeds: must be at least 3, not {rule.seeds}")
    shared_unit = len(tasks) < 2 or all(task.startswith("dmc/") for task in tasks)
    if rule.measure.endswith("difference") and not shared_unit:
        problems.append(
            f"decision.measure: {rule.measure} would average returns of different units over "
            f"{len(tasks)} tasks; use {rule.measure.partition('_')[0]}_relative"
        )
    return problems


def _failure_rate_problems(rule: DecisionRule, seeds: int | None) -> list[str]:
    rate = rule.max_failure_rate
    if rate is None:
        return []
    if not 0.0 < rate < 1.0:
        return [f"decision.max_failure_rate: must lie in (0, 1), such as 0.3, not {rate}"]
    needed = clean_seeds(rate, rule.confidence)
    if seeds is None or seeds >= needed:
        return []
    return [
        f"decision.max_failure_rate: {rate:g} is excluded by {needed} seeds without a collapse, "
        f"and there are {seeds}, so that nothing could ever be adopted; give at least {needed} "
        "seeds, or a higher rate"
    ]
