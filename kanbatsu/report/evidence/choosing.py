"""What stored studies say of each sparsity, by task and size: docs/choosing-a-sparsity.md.

A sparse arm is set beside two kinds of dense arms of its study, which differ from it in their
networks alone: those of its size, and those of its number of weights.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from kanbatsu.report.evidence.stored import (
    Evidence,
    compare,
    confidence_in,
    difference,
    kept,
    networks,
    seen,
    shape,
)
from kanbatsu.report.evidence.tables import mean, plural, table
from kanbatsu.report.results import ArmResults, StudyResults
from kanbatsu.report.words import DASH, agent_name

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
HEAD = ["dense", "sparse", "seeds", "return, dense", "sparse"]
HEAD += ["difference", "seen", "dormant", "study"]


class Pair(NamedTuple):
    """A sparse arm and its dense twin."""

    sparse: ArmResults
    dense: ArmResults


def render(stored: Sequence[Evidence]) -> str:
    """Return the page's text."""
    parts = [ADVICE.rstrip("\n")]
    for title, pairs in (
        ("The same size: a network with and without most of its weights", same_size),
        ("The same number of weights: larger and sparse, or smaller and dense", same_weights),
    ):
        lines = [line for evidence in stored for line in rows(evidence, pairs)]
        parts += [f"### {title}", tally([row for _, row in lines])]
        for task in sorted({task for task, _ in lines}):
            parts.append(f"#### {task}\n\n{table(HEAD, [row for on, row in lines if on == task])}")
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
    evidence: Evidence, pairs_in: Callable[[StudyResults], list[Pair]]
) -> Iterator[tuple[str, Sequence[str]]]:
    """Compare the pairs of a study, task by task: each task with a row of its table."""
    study = evidence.study
    pairs = pairs_in(study)
    # No interval is narrower here than on the study's own page.
    confidence = confidence_in(study, least=len(pairs) * len(study.tasks))
    for task in study.tasks:
        for sparse, dense in pairs:
            estimate = compare(sparse, dense, task, confidence)
            if estimate is None:
                continue
            x, y = sparse.finals(task), dense.finals(task)
            yield (
                task,
                [
                    f"{agent_name(dense.agent)}, {shape(dense)}",
                    shape(sparse, beside=dense),
                    f"{x.size} and {y.size}",
                    mean(y),
                    mean(x),
                    difference(estimate),
                    seen(estimate),
                    f"{dormant(dense, task)}, {dormant(sparse, task)}",
                    f"[{evidence.name}](evidence/{evidence.name}.md), {sparse.name}",
                ],
            )


def same_size(study: StudyResults) -> list[Pair]:
    """Pair each sparse arm with the dense one that differs from it in what is removed alone.

    The least sparse comes first.
    """
    return [pair for pair in _pairs(study) if _alike(pair, PRUNING)]


def same_weights(study: StudyResults) -> list[Pair]:
    """Pair each sparse arm with every dense one whose networks have as many weights."""
    return [pair for pair in _pairs(study) if _alike(pair, SHAPE) and _as_many(pair)]


def sparsities(arm: ArmResults) -> tuple[float, ...]:
    """Return the sparsity of each network."""
    return tuple(network.get("sparsity") or 0.0 for network in networks(arm).values())


def dormant(arm: ArmResults, task: str) -> str:
    """Return the critic's dormant ratio at the end, averaged over seeds; a dash where unknown."""
    runs = (run for run in arm.on(task) if run.finished)
    return mean(run.last_probe("critic/dormant_0.1") for run in runs) or DASH


def _pairs(study: StudyResults) -> list[Pair]:
    """Give every dense agent with every sparse one, none with remedies, the least sparse first."""
    plain = [arm for arm in study.arms if not arm.remedy and arm.agent != "classifier"]
    ordered = sorted(plain, key=sparsities)
    dense = [arm for arm in plain if not any(sparsities(arm))]
    return [Pair(arm, other) for other in dense for arm in ordered if any(sparsities(arm))]


def _as_many(pair: Pair) -> bool:
    sparse, dense = kept(pair.sparse), kept(pair.dense)
    return bool(dense) and all(
        abs(sparse.get(name, 0) - count) <= AS_MANY * count for name, count in dense.items()
    )


def _alike(pair: Pair, ignored: Sequence[str]) -> bool:
    """Whether two arms differ in nothing but the ignored settings of their networks."""
    sparse, dense = (
        (arm.agent, {name: _without(it, ignored) for name, it in arm.config.items()}, arm.train)
        for arm in pair
    )
    return sparse == dense


def _without(setting: Any, ignored: Sequence[str]) -> Any:
    if not isinstance(setting, Mapping):
        return setting
    return {key: value for key, value in setting.items() if key not in ignored}
