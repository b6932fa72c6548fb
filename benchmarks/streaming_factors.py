"""What SparseInit does, what a mask does, and whether they add up: from the stored two by twos.

    python benchmarks/streaming_factors.py

Each study in evidence/ that has all four arms of the two by two on a task is a row. The effect of a
factor is the mean return with it less that without it, averaged over the other factor; the
interaction is the effect of the mask with SparseInit less its effect without. Intervals are 95 %
bootstrap intervals over seeds, drawn anew within each arm, of each number alone.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kanbatsu.report.results import StudyResults, read_study

HERE = Path(__file__).parent
EVIDENCE = HERE.parent / "evidence"
ARMS = ("neither", "sparse-init", "mask", "sparse-init-and-mask")
WEIGHTS = {
    "SparseInit": (-0.5, 0.5, -0.5, 0.5),
    "mask": (-0.5, -0.5, 0.5, 0.5),
    "interaction": (1.0, -1.0, -1.0, 1.0),
}
"""Of the arms' mean returns."""
SAMPLES = 10_000


def main() -> None:
    """Print a table."""
    print(f"| task | env steps | seeds per arm | {' | '.join(WEIGHTS)} |")
    print("|---|---:|---:|---:|---:|---:|")
    for folder in sorted(path.parent for path in EVIDENCE.glob("streaming-*/study.json")):
        study = read_study(folder)
        for task in study.tasks:
            returns = [finals(study, arm, task) for arm in ARMS]
            if min(x.size for x in returns) < 2:
                continue
            cells = [interval(returns, weights) for weights in WEIGHTS.values()]
            seeds = "/".join(sorted({str(x.size) for x in returns}))
            print(f"| `{task}` | {study.env_steps:,} | {seeds} | {' | '.join(cells)} |")


def finals(study: StudyResults, name: str, task: str) -> np.ndarray:
    """Return the final returns of an arm on a task; none where there is no such arm."""
    arms = [arm for arm in study.arms if arm.name == name]
    found = [run.final_return for arm in arms for run in arm.on(task)]
    return np.array([value for value in found if value is not None])


def interval(returns: list[np.ndarray], weights: tuple[float, ...]) -> str:
    """Write a weighted sum of means with its bootstrap interval."""
    random = np.random.default_rng(0)
    drawn = [random.choice(x, (SAMPLES, x.size)).mean(axis=1) for x in returns]
    samples = sum(weight * x for weight, x in zip(weights, drawn, strict=True))
    value = sum(weight * x.mean() for weight, x in zip(weights, returns, strict=True))
    low, high = np.percentile(samples, [2.5, 97.5])
    return f"{value:+.3g} [{low:+.3g}, {high:+.3g}]"


if __name__ == "__main__":
    main()
