"""Answers to the three questions that studies/plasticity-remedies.toml fixed before its runs.

    python benchmarks/plasticity_remedies.py [FOLDER]

FOLDER is the study's own or its archive, evidence/plasticity-remedies by default. Doses and
intervals are those of the report's table; the margin and the words stand in the study file.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kanbatsu.report.evidence.replaced import comparison
from kanbatsu.report.results import read_study
from kanbatsu.report.rivals import rivals

NEARLY = -0.05
"""Difference from the mask alone above which a remedy does what the mask does."""

UNORDERED = ("redo", "spectral_norm")
"""Remedies whose doses differ in two settings, so that their range has no ends."""


def difference(side: Mapping[str, Any]) -> str:
    """Say a difference with its interval."""
    low, high = side["interval"]
    return f"{side['difference']:+.3f} [{low:+.3f}, {high:+.3f}]"


def answers(on: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence for each remedy, alone and with the mask."""
    for row in on["rows"]:
        if (alone := row["alone"]) is not None:
            low, high = alone["interval"]
            words = ["does what the mask does"] * (low > NEARLY) + ["does less"] * (high < 0)
            said = " and ".join(words) or "cannot be told from it"
            yield f"(i, ii) {row['remedy']} alone: {said}; {difference(alone)}{edge(row, alone)}"
        if (both := row["both"]) is not None:
            low, high = both["interval"]
            said = "takes from the mask" if high < 0 else "adds nothing that is seen"
            said = "adds to the mask" if low > 0 else said
            words = f"{said}; {difference(both)}{edge(row, both)}"
            yield f"(iii) {row['remedy']} with the mask: {words}"


def edge(row: Mapping[str, Any], side: Mapping[str, Any]) -> str:
    """Say where the best dose is the first or the last of its range, in the order of its names."""
    doses = list(side["doses"])
    ends = row["remedy"] not in UNORDERED and side["arm"] in (doses[0], doses[-1])
    return f" (best dose at an end of its range: {side['arm']})" if ends else ""


def main() -> None:
    """Print the table and the answers."""
    study = read_study(Path(sys.argv[1] if len(sys.argv) > 1 else "evidence/plasticity-remedies"))
    missing = sum(not run.finished for run in study.runs)
    if missing:
        sys.exit(f"{missing} of {len(study.runs)} runs are not finished: the rules ask for all")
    found = rivals(study)
    if found is None:
        sys.exit("this is no study of remedies beside a mask")
    for task, on in found["tasks"].items():
        print(comparison(found, task), *answers(on), sep="\n")


if __name__ == "__main__":
    main()
