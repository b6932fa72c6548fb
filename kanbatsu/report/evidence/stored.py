"""Studies that are kept in the repository, and how far the arms of one are apart."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kanbatsu.report.effect import Effect, effect
from kanbatsu.report.judge import confidence_of_each
from kanbatsu.report.language import texts
from kanbatsu.report.results import ArmResults, StudyResults, read_study
from kanbatsu.report.words import describe, round_to

ENGLISH = texts("en")
MEASURE, CONFIDENCE = "mean_difference", 0.95
"""Confidence of all comparisons of a study together, and of each published number alone."""


@dataclass(frozen=True)
class Evidence:
    """One stored study and its notes: what data cannot say."""

    name: str
    study: StudyResults
    title: str
    design: str
    """What was fixed before the run, and what was changed since."""
    limits: Sequence[str]
    """What the study does not show."""
    published: Sequence[Mapping[str, Any]] = ()
    """Published numbers: `arm`, `task`, `env_steps`, `returns` (one per seed), `source`."""


def read_all(root: Path) -> list[Evidence]:
    """Read every study in a folder, by name."""
    return [read(path.parent) for path in sorted(root.glob("*/study.json"))]


def read(folder: Path) -> Evidence:
    """Read a stored study and its notes."""
    notes = tomllib.loads((folder / "notes.toml").read_text())
    return Evidence(folder.name, read_study(folder), **notes)


def comparisons(study: StudyResults) -> list[tuple[str, ArmResults, ArmResults]]:
    """Return what a study compares: task, arm and control, or nothing where it has no control."""
    control = study.control_arm
    if control is None:
        return []
    return [
        (task, arm, control) for task in study.tasks for arm in study.arms if arm is not control
    ]


def confidence_in(study: StudyResults, least: int = 1) -> float:
    """Return the confidence of one interval with which all of a study hold together.

    Args:
        study: The study.
        least: Number of comparisons to allow for, where the study itself has fewer.
    """
    return confidence_of_each(CONFIDENCE, max(least, len(comparisons(study))))


def compare(arm: ArmResults, control: ArmResults, task: str, confidence: float) -> Effect | None:
    """Return the difference of two arms on a task; nothing where too few runs have finished."""
    x, y = arm.finals(task), control.finals(task)
    return effect([x], [y], MEASURE, confidence) if min(x.size, y.size) >= 2 else None


def seen(estimate: Effect | None) -> Literal["higher", "lower", "open"]:
    """Say on which side of zero an interval lies.

    Example:
        >>> seen(Effect(3.0, 1.0, 5.0)), seen(Effect(3.0, -1.0, 7.0)), seen(None)
        ('higher', 'open', 'open')
    """
    if estimate is None:
        return "open"
    return "higher" if estimate.low > 0 else "lower" if estimate.high < 0 else "open"


def difference(estimate: Effect) -> str:
    """Write a difference and its interval, with signs.

    Example:
        >>> difference(Effect(3.0, -1.0, 7.0))
        '+3.00 [-1.00, +7.00]'
    """
    value, low, high = (f"{'+' if x >= 0 else '-'}{round_to(abs(float(x)))}" for x in estimate)
    return f"{value} [{low}, {high}]"


def kept(arm: ArmResults) -> dict[str, int]:
    """Return the weights that each network of an arm keeps, by the first run that says so."""
    counted = next((run.networks for run in arm.runs if run.networks), {})
    return {name: network["kept"] for name, network in sorted(counted.items())}


def networks(arm: ArmResults) -> dict[str, Mapping[str, Any]]:
    """Return the settings of each network of an arm."""
    settings = sorted(arm.config.items())
    return {name: it for name, it in settings if isinstance(it, Mapping) and "width" in it}


def shape(arm: ArmResults, beside: ArmResults | None = None) -> str:
    """Say the shape of each network, or of those alone that differ from another arm's."""
    known = {} if beside is None else networks(beside)
    shown = {name: it for name, it in networks(arm).items() if it != known.get(name)}
    return "; ".join(f"{name} {describe(network, ENGLISH)}" for name, network in shown.items())


def is_bench(study: StudyResults) -> bool:
    """Return whether a study trained classifiers, whose results are accuracies, not returns."""
    return all(arm.agent == "classifier" for arm in study.arms)


def measured(study: StudyResults) -> str:
    """Return the noun of what a study's runs are judged by."""
    return "accuracy" if is_bench(study) else "return"


def steps(study: StudyResults) -> str:
    """Return the noun of what a study's runs are counted in."""
    return "steps" if is_bench(study) else "env steps"
