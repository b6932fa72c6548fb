"""What a mask replaces: each remedy alone, the mask alone, both, at doses chosen on seeds apart."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from kanbatsu.report.effect import effect
from kanbatsu.report.results import ArmResults, StudyResults

CHOOSING = 1 / 3
"""Share of the seeds, the first ones, on which doses are chosen; the others compare."""

FEWEST = 2
"""Seeds that choosing, and comparing, need at least."""


class Plain(NamedTuple):
    """The two arms without a remedy."""

    dense: ArmResults
    masked: ArmResults


def rivals(study: StudyResults, confidence: float = 0.95) -> dict[str, Any] | None:
    """Compare remedies with a mask, alone and beside it; None where a study has not all of them.

    The dose of a remedy is the arm with the highest mean on the first third of the seeds, chosen
    for the dense and for the sparse network apart. On the other seeds its mean less that of the
    mask alone is told, with Welch's interval at a confidence that holds for a whole column (after
    Bonferroni).

    Args:
        study: One with an arm without pruning, the same arm with a mask, and arms of either with
            remedies.
        confidence: That of a column.

    Returns:
        `choosing` and `comparing`, the seeds; `dense` and `masked`, the arms' names; `tasks`, each
        with a list of rows: of an arm without remedies, or of one remedy.
    """
    plain = _plain(study)
    cut = int(len(study.seeds) * CHOOSING)
    if plain is None or min(cut, len(study.seeds) - cut) < FEWEST:
        return None
    columns = [_doses(study, plain.dense), _doses(study, plain.masked)]
    kinds = list(dict.fromkeys(kind for doses in columns for kind in doses))
    if not kinds:
        return None
    choosing, comparing = study.seeds[:cut], study.seeds[cut:]

    def row(kind: str, task: str) -> dict[str, Any]:
        cells = [
            _cell(doses[kind], plain.masked, task, (choosing, comparing), level)
            if kind in doses
            else None
            for doses, level in zip(columns, levels, strict=True)
        ]
        return {"remedy": kind, "alone": cells[0], "both": cells[1]}

    levels = [1 - (1 - confidence) / max(len(doses), 1) for doses in columns]
    return {
        "choosing": list(choosing),
        "comparing": list(comparing),
        "dense": plain.dense.name,
        "masked": plain.masked.name,
        "confidence": {"alone": levels[0], "both": levels[1]},
        "tasks": {
            task: {
                "dense": _facts(plain.dense, task, comparing),
                "masked": _facts(plain.masked, task, comparing),
                "rows": [row(kind, task) for kind in kinds],
            }
            for task in study.tasks
        },
    }


def _plain(study: StudyResults) -> Plain | None:
    """Find the arm with a mask and no remedy, the control before others, and its dense twin."""
    plain = [arm for arm in study.arms if not arm.remedy]
    for masked in plain:
        for dense in plain:
            pruned = any(_sparsities(masked)) and not any(_sparsities(dense))
            if pruned and _without_sparsity(masked) == _without_sparsity(dense):
                return Plain(dense, masked)
    return None


def _without_sparsity(arm: ArmResults) -> Any:
    networks = {
        name: {key: x for key, x in value.items() if key != "sparsity"}
        if isinstance(value, Mapping)
        else value
        for name, value in arm.config.items()
    }
    return arm.agent, networks, arm.train, arm.matched


def _sparsities(arm: ArmResults) -> list[float]:
    networks = (value for value in arm.config.values() if isinstance(value, Mapping))
    return [network.get("sparsity") or 0.0 for network in networks]


def _doses(study: StudyResults, base: ArmResults) -> dict[str, list[ArmResults]]:
    """Return the arms that are one arm with a remedy, by the kinds of their remedies."""
    doses: dict[str, list[ArmResults]] = {}
    for arm in study.arms:
        alike = (arm.agent, arm.config, arm.train) == (base.agent, base.config, base.train)
        if arm.remedy and alike and arm.matched == base.matched:
            doses.setdefault(" + ".join(remedy["kind"] for remedy in arm.remedy), []).append(arm)
    return doses


def _cell(
    doses: Sequence[ArmResults],
    masked: ArmResults,
    task: str,
    seeds: tuple[Sequence[int], Sequence[int]],
    confidence: float,
) -> dict[str, Any]:
    """Choose the dose of a remedy, and compare it with the mask alone."""
    choosing, comparing = seeds
    means = {arm.name: _mean(_scores(arm, task, choosing)) for arm in doses}
    best = max(doses, key=lambda arm: -math.inf if (x := means[arm.name]) is None else x)
    x, y = _scores(best, task, comparing), _scores(masked, task, comparing)
    difference, interval = None, None
    if x.size and y.size:
        found = effect([x], [y], "mean_difference", confidence)
        difference = float(found.value)
        interval = None if np.isnan(found.low) else [float(found.low), float(found.high)]
    return {
        "arm": best.name,
        "dose": _dose(best, doses),
        "doses": means,
        "difference": difference,
        "interval": interval,
        **_facts(best, task, comparing),
    }


def _facts(arm: ArmResults, task: str, seeds: Sequence[int]) -> dict[str, Any]:
    """Return an arm's mean result, what it keeps over time, and what its runs take."""
    runs = [run for run in arm.on(task) if run.networks]
    kept = {
        key: _mean(
            [sum(n.get(f"kept_{key}", n["kept"]) for n in run.networks.values()) for run in runs]
        )
        for key in ("first", "end", "mean")
    }
    return {
        "mean": _mean(_scores(arm, task, seeds)),
        "kept": kept,
        "flops": _mean([run.total_flops for run in arm.on(task) if run.total_flops is not None]),
        "needed": _mean(
            [
                run.total_flops * run.flops_per_update["sparse"] / run.flops_per_update["computed"]
                for run in runs
                if run.total_flops is not None and run.flops_per_update.get("computed")
            ]
        ),
    }


def _dose(arm: ArmResults, doses: Sequence[ArmResults]) -> str:
    """Say in what a dose differs from the others of its remedy."""
    words = []
    for at, remedy in enumerate(arm.remedy):
        for name, value in remedy.items():
            if len({str(other.remedy[at].get(name)) for other in doses}) > 1:
                words.append(f"{name} {value:,}" if type(value) is int else f"{name} {value}")
    return ", ".join(words)


def _scores(arm: ArmResults, task: str, seeds: Sequence[int]) -> np.ndarray:
    returns = (run.final_return for run in arm.on(task) if run.seed in seeds)
    return np.array([value for value in returns if value is not None], dtype=float)


def _mean(values: Sequence[float | int] | np.ndarray) -> float | None:
    return statistics.fmean(values) if len(values) else None
