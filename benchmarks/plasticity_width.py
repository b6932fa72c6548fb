"""The three questions that studies/plasticity-width.toml fixed before its runs, and their answers.

    python benchmarks/plasticity_width.py [FOLDER]

FOLDER is the study's own or its archive, evidence/plasticity-width by default. Every number is
computed from the runs; the rules stand in the study file.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.special import stdtrit

from kanbatsu.report.effect import Effect, centre
from kanbatsu.report.evidence.stored import difference, seen
from kanbatsu.report.results import StudyResults, read_study

WIDTHS = (64, 128, 256, 512)
KINDS = {"dense": "dense-{}", "S = .9": "sparse{}-90", "dense, as many weights": "small{}-90"}
CHOOSING = 5
"""Seeds, the first ones, on which an arm's best step is chosen; it is compared on the others."""

Scores = Mapping[str, Mapping[str, np.ndarray]]
"""Final accuracies by task and arm, by seed."""


def contrast(signed: Sequence[tuple[int, np.ndarray]], confidence: float) -> Effect:
    """Return a sum of means with signs, and its interval by Welch and Satterthwaite.

    Example:
        >>> x, y = np.array([1.0, 2.0, 3.0]), np.array([0.0, 1.0, 2.0])
        >>> float(contrast([(1, x), (-1, y)], 0.95).value)
        1.0
    """
    centres = [centre(values, "mean_difference") for _, values in signed]
    signs = np.array([sign for sign, _ in signed])
    value = np.float64(signs @ np.array([float(it.value) for it in centres]))
    variances = np.array([float(it.variance) for it in centres])
    freedoms = np.array([it.freedom for it in centres])
    total = variances.sum()
    if total == 0:
        return Effect(value, value, value)
    freedom = total**2 / (variances**2 / freedoms).sum()
    half = stdtrit(freedom, 0.5 + confidence / 2) * np.sqrt(total)
    return Effect(value, value - half, value + half)


def finals(study: StudyResults, seeds: Sequence[int]) -> Scores:
    """Return the final accuracies of the runs with these seeds."""
    return {
        task: {
            arm.name: np.array([run.final_return for run in arm.on(task) if run.seed in seeds])
            for arm in study.arms
        }
        for task in study.tasks
    }


def table(scores: Scores) -> str:
    """Return means and standard deviations, a line for each arm."""
    lines = [
        "| width | network | " + " | ".join(scores) + " |",
        "|---:|---|" + "---:|" * len(scores),
    ]
    for width in WIDTHS:
        for kind, name in KINDS.items():
            values = [each[name.format(width)] for each in scores.values()]
            cells = [f"{x.mean():.3f} ± {x.std(ddof=1):.3f}" for x in values]
            lines.append(f"| {width} | {kind} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def answers(study: StudyResults) -> list[str]:
    """Return a sentence for each part of the question."""
    scores = finals(study, study.seeds)
    steps = len(study.tasks)
    of_three, lines = 1 - 0.05 / steps, []
    for task, each in scores.items():
        best = max((f"dense-{width}" for width in WIDTHS[:-1]), key=lambda name: each[name].mean())
        fall = contrast([(1, each["dense-512"]), (-1, each[best])], of_three)
        lines.append(f"(i) {task}: dense-512 less {best}: {difference(fall)}, {seen(fall)}")
        four = [(1, "sparse512-90"), (-1, "sparse128-90"), (-1, "dense-512"), (1, "dense-128")]
        less = contrast([(sign, each[name]) for sign, name in four], of_three)
        gain = f"{difference(less)}, {seen(less)}"
        lines.append(f"(ii) {task}: gain from 128 to 512, sparse less dense: {gain}")
    chosen, compared = finals(study, study.seeds[:CHOOSING]), finals(study, study.seeds[CHOOSING:])

    def best_step(arm: str) -> str:
        return max(study.tasks, key=lambda task: chosen[task][arm].mean())

    arm = "sparse512-90"
    for rival in ("dense-512", "small512-90"):
        pair = {name: best_step(name) for name in (arm, rival)}
        gap = contrast(
            [(1, compared[pair[arm]][arm]), (-1, compared[pair[rival]][rival])], 1 - 0.05 / 2
        )
        pairs = f"{arm} at {pair[arm]} less {rival} at {pair[rival]}"
        lines.append(f"(iii) {pairs}: {difference(gap)}, {seen(gap)}")
    return lines


def main() -> None:
    """Print the table and the answers."""
    study = read_study(Path(sys.argv[1] if len(sys.argv) > 1 else "evidence/plasticity-width"))
    missing = sum(not run.finished for run in study.runs)
    if missing:
        sys.exit(f"{missing} of {len(study.runs)} runs are not finished: the rules ask for all")
    print(table(finals(study, study.seeds)), *answers(study), sep="\n")


if __name__ == "__main__":
    main()
