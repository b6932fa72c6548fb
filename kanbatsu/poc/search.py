"""Successive halving: many candidates get few seeds, the better half of them twice as many."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from kanbatsu.report.effect import effect
from kanbatsu.report.judge import amount, scores, threshold_of
from kanbatsu.report.results import ArmResults


class Round(NamedTuple):
    """One round of the search."""

    candidates: int
    """Number of candidates that take part."""
    seeds: tuple[int, ...]
    """Seeds that are new in this round; results of earlier rounds count too."""


def rounds(candidates: int, seeds: int, finalists: int, first_seed: int) -> list[Round]:
    """Plan a search: half of the candidates go on, and have twice as many seeds in all.

    Args:
        candidates: Number of candidates at the start.
        seeds: Seeds of each candidate in the first round.
        finalists: Most candidates that are left at the end.
        first_seed: The search takes the seeds from here on.

    Returns:
        The rounds; none if there is nothing to choose from.

    Example:
        >>> for round in rounds(6, 2, finalists=1, first_seed=1000): print(*round)
        6 (1000, 1001)
        3 (1002, 1003)
        2 (1004, 1005, 1006, 1007)
    """
    planned: list[Round] = []
    had = 0
    while candidates > finalists:
        total = seeds * 2 ** len(planned)
        planned.append(Round(candidates, tuple(range(first_seed + had, first_seed + total))))
        had = total
        candidates = max(math.ceil(candidates / 2), finalists)
    return planned


def rank(
    arms: Sequence[ArmResults], control: ArmResults, tasks: Sequence[str], rule: Mapping[str, Any]
) -> list[str]:
    """Order candidates, the best first; equal results give an equal order.

    Where a better return is the goal, by effect. Where the return is not to fall, those whose
    effect is above the threshold come first, the one that keeps the fewest weights in front. A
    candidate with a run that has no return comes last: it fails where others do not.

    Args:
        arms: The candidates, with the runs of all rounds so far.
        control: The control, with the same seeds.
        tasks: The study's.
        rule: The decision rule, as a table.
    """

    def place(arm: ArmResults) -> tuple[Any, ...]:
        x, y = scores(arm, tasks), scores(control, tasks)
        failed = sum(run.final_return is None for run in arm.runs)
        if min(task.size for task in [*x, *y]) == 0:
            return failed, 1, 0.0, 0.0, arm.name
        value = float(effect(x, y, rule["measure"], rule["confidence"]).value)
        value = value if np.isfinite(value) else -math.inf
        if rule["goal"] == "better":
            return failed, 0, -value, 0.0, arm.name
        if value > threshold_of(rule):
            return failed, 0, amount(arm, rule["saves"]) or 0.0, -value, arm.name
        return failed, 1, -value, 0.0, arm.name

    return [arm.name for arm in sorted(arms, key=place)]
