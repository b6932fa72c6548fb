"""Write docs/choosing-a-sparsity.md: what stored studies say of each sparsity, by task and size.

    make evidence

A sparse arm is set beside two kinds of dense arms of its study, which differ from it in their
networks alone: those of its size, and those of its number of weights. Every number is computed
here, from the studies beside this file.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pages import (
    CONFIDENCE,
    ENGLISH,
    Evidence,
    compare,
    confidence_of_each,
    difference,
    finals,
    kept,
    plural,
    read,
    seen,
    table,
)

from kanbatsu.report.results import ArmResults, StudyResults
from kanbatsu.report.words import DASH, agent_name, describe, round_to

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "choosing-a-sparsity.md"
PRUNING = ("sparsity", "distribution", "pattern", "group_size", "compute")
"""Settings of a network that say what is removed and how it is computed; `compute` changes no
number but by rounding."""
SHAPE = ("width", "blocks", *PRUNING)
AS_MANY = 0.1
"""Weights kept by two networks count as the same number up to this share of the dense one's."""

ADVICE = """\
# Choosing a sparsity

There is no sparsity that suits every task and network: find the range on your own task with a
small sweep, and confirm one value with fresh seeds. In the studies below pruning helped critics
without normalisation, early in training; with normalisation, small critics did
not gain, and one lost.

1. Start from the network that you would use, and one twice as wide. Wide networks have weights to
   spare; a network that is barely large enough has none.
2. Sweep a few sparsities far apart, such as 0.5, 0.8, 0.9 and 0.95, at each width, with the dense
   network of the same width as the control.
3. Look inside as well as at the score. A dormant ratio that rises or an srank that falls in the
   dense network is what pruning may help; where a sparse network shows it, too much was removed.
4. Confirm the best one with seeds that were not used to choose it, against a rule written down
   before: [the decision](studies.md#the-decision).
5. Ask for the gain too: kept weights, operations and time ([sparse compute](sparse-compute.md)).

## What the stored studies say

Each row is a sparse arm beside a dense one that differs from it in nothing but the networks. The
difference is that of mean final returns with Welch's interval; the intervals of one study hold
together at 95 % (Bonferroni). "Seen" is higher or lower where the whole interval lies on one side
of zero, and else open. "Dormant" is the critic's dormant ratio (threshold 0.1) at the end, dense
and sparse. A task or size that is not here was not measured.
"""

HEAD = (
    "dense",
    "sparse",
    "seeds",
    "return, dense",
    "sparse",
    "difference",
    "seen",
    "dormant",
    "study",
)


class Pair(NamedTuple):
    """A sparse arm and its dense twin."""

    sparse: ArmResults
    dense: ArmResults


def main() -> None:
    """Write the page."""
    PAGE.write_text(render(HERE))


def render(root: Path) -> str:
    """Return the page's text."""
    stored = [read(path.parent) for path in sorted(root.glob("*/study.json"))]
    parts = [ADVICE.rstrip("\n")]
    for title, pairs in (
        ("The same size: a network with and without most of its weights", same_size),
        ("The same number of weights: larger and sparse, or smaller and dense", same_weights),
    ):
        by_task: dict[str, list[Sequence[str]]] = {}
        for evidence in stored:
            for task, row in rows(evidence, pairs):
                by_task.setdefault(task, []).append(row)
        every = [row for found in by_task.values() for row in found]
        tables = [f"#### {task}\n\n{table(HEAD, by_task[task])}" for task in sorted(by_task)]
        parts += [f"### {title}", tally(every), *tables]
    return "\n\n".join(parts) + "\n"


def tally(every: Sequence[Sequence[str]]) -> str:
    """Count what was seen."""
    counts = Counter(row[HEAD.index("seen")] for row in every)
    return (
        f"Of {plural(len(every), 'comparison')}, the sparse network returned more in "
        f"{counts['higher']} and less in {counts['lower']}; no difference could be seen in "
        f"{counts['open']}."
    )


def rows(
    evidence: Evidence, pairs: Callable[[StudyResults], list[Pair]]
) -> Iterator[tuple[str, Sequence[str]]]:
    """Compare the pairs of a study, task by task."""
    study = evidence.study
    found = pairs(study)
    # No interval is narrower here than on the study's own page.
    together = 1 - (1 - CONFIDENCE) / max(1, len(found) * len(study.tasks))
    confidence = max(together, confidence_of_each(study))
    for task in study.tasks:
        for pair in found:
            said = compare(pair.sparse, pair.dense, task, confidence)
            if said is None:
                continue
            x, y = finals(pair.sparse, task), finals(pair.dense, task)
            yield (
                task,
                [
                    f"{agent_name(pair.dense.agent)}, {size(pair.dense)}",
                    size(pair.sparse, beside=pair.dense),
                    f"{x.size} and {y.size}",
                    round_to(float(y.mean())),
                    round_to(float(x.mean())),
                    difference(said),
                    seen(said),
                    f"{dormant(pair.dense, task)}, {dormant(pair.sparse, task)}",
                    f"[{evidence.name}](evidence/{evidence.name}.md), {pair.sparse.name}",
                ],
            )


def same_size(study: StudyResults) -> list[Pair]:
    """Pair each sparse arm with the dense one that differs from it in what is removed alone.

    The least sparse comes first.
    """
    return [
        Pair(arm, twin)
        for twin, arm in _candidates(study)
        if _likeness(twin, PRUNING) == _likeness(arm, PRUNING)
    ]


def same_weights(study: StudyResults) -> list[Pair]:
    """Pair each sparse arm with every dense one whose networks have as many weights."""
    return [
        Pair(arm, other)
        for other, arm in _candidates(study)
        if _likeness(other, SHAPE) == _likeness(arm, SHAPE) and _as_many(arm, other)
    ]


def sparsities(arm: ArmResults) -> dict[str, float]:
    """Return the sparsity of each network."""
    return {name: network.get("sparsity") or 0.0 for name, network in _networks(arm)}


def size(arm: ArmResults, beside: ArmResults | None = None) -> str:
    """Say the shape of each network, or of those alone that differ from another arm's."""
    known = {} if beside is None else dict(_networks(beside))
    shown = [(name, network) for name, network in _networks(arm) if network != known.get(name)]
    return "; ".join(f"{name} {describe(network, ENGLISH)}" for name, network in shown)


def dormant(arm: ArmResults, task: str) -> str:
    """Return the critic's dormant ratio at the end, averaged over seeds; a dash where unknown."""
    series = [run.probes.get("critic/dormant_0.1") for run in arm.on(task) if run.finished]
    last = [list(values.values())[-1] for values in series if values]
    return round_to(statistics.fmean(last)) if last else DASH


def _networks(arm: ArmResults) -> list[tuple[str, Mapping[str, Any]]]:
    return [
        (name, value)
        for name, value in sorted(arm.config.items())
        if isinstance(value, Mapping) and "width" in value
    ]


def _candidates(study: StudyResults) -> Iterator[tuple[ArmResults, ArmResults]]:
    """Give every dense arm with every sparse one, the least sparse first."""
    dense = [arm for arm in study.arms if not any(sparsities(arm).values())]
    sparse = [arm for arm in study.arms if arm not in dense]
    for other in dense:
        for arm in sorted(sparse, key=lambda arm: tuple(sparsities(arm).values())):
            yield other, arm


def _as_many(sparse: ArmResults, dense: ArmResults) -> bool:
    found, wanted = kept(sparse), kept(dense)
    return bool(wanted) and all(
        abs(found.get(name, 0) - count) <= AS_MANY * count for name, count in wanted.items()
    )


def _likeness(arm: ArmResults, ignored: Sequence[str]) -> Any:
    config = {
        name: {key: item for key, item in value.items() if key not in ignored}
        if isinstance(value, Mapping)
        else value
        for name, value in arm.config.items()
    }
    return arm.agent, config, arm.train


if __name__ == "__main__":
    main()
