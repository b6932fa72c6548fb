"""What a mask replaces, on the page of a stored study: sentences, a table, and what is drawn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from kanbatsu.report.evidence.tables import table
from kanbatsu.report.results import StudyResults
from kanbatsu.report.words import DASH

Found = Mapping[str, Any]


def sentences(found: Found) -> Iterator[str]:
    """Say of each remedy what its best dose does alone and with the mask, beside the mask alone.

    Args:
        found: as `kanbatsu.report.rivals.rivals` returns it.
    """
    for task, on in found["tasks"].items():
        masked, dense = (f"{on[name]['mean']:.3f}" for name in ("masked", "dense"))
        yield (
            f"{task}: the mask alone (**{found['masked']}**) ends at {masked}, "
            f"**{found['dense']}** at {dense}."
        )
        for row in on["rows"]:
            parts = [
                f"{side} {_sum_up(row[name])}"
                for name, side in (("alone", "alone"), ("both", "with the mask"))
                if row.get(name)
            ]
            yield f"{task}: **{row['remedy']}**, {'; '.join(parts)}."


def _sum_up(cell: Found) -> str:
    low, high = cell["interval"]
    difference = f"{cell['difference']:+.3f} [{low:+.3f}, {high:+.3f}]"
    if low <= 0 <= high:
        return f"no difference from the mask alone can be seen: {difference}"
    return f"{'higher' if low > 0 else 'lower'} than the mask alone: {difference}"


def comparison(found: Found, task: str) -> str:
    """Return the table of all remedies on a task: best doses, beside the mask alone."""
    head = ["remedy", "alone", "less the mask", "with the mask", "less the mask"]
    on = found["tasks"][task]
    rows = [
        ["none", f"{on['dense']['mean']:.3f}", DASH, f"{on['masked']['mean']:.3f}", DASH],
        *([row["remedy"], *_cell(row.get("alone")), *_cell(row.get("both"))] for row in on["rows"]),
    ]
    return table(head, rows)


def _cell(cell: Found | None) -> tuple[str, str]:
    if not cell:
        return DASH, DASH
    low, high = cell["interval"]
    mean = f"{cell['mean']:.3f} ({cell['dose']})"
    return mean, f"{cell['difference']:+.3f} [{low:+.3f}, {high:+.3f}]"


def how_chosen(found: Found) -> str:
    """Say on which seeds doses were chosen and compared, and at which confidence."""
    choosing, comparing = found["choosing"], found["comparing"]
    alone, both = (100 * found["confidence"][name] for name in ("alone", "both"))
    return (
        f"The dose of each remedy is the best of its doses on seeds {choosing[0]} to "
        f"{choosing[-1]}, and is compared on seeds {comparing[0]} to {comparing[-1]}: differences "
        f"of means from the mask alone, with Welch's intervals at {alone:.2f}% (alone) and "
        f"{both:.2f}% (with the mask), so that those of a column hold together at 95% (Bonferroni)."
    )


def drawn(study: StudyResults, found: Found) -> StudyResults:
    """Return the study with the arms that its picture shows: no remedy, and the best doses."""
    names = {found["dense"], found["masked"]} | {
        row[side]["arm"]
        for on in found["tasks"].values()
        for row in on["rows"]
        for side in ("alone", "both")
        if row.get(side)
    }
    return replace(study, arms=tuple(arm for arm in study.arms if arm.name in names))
