"""The tables of an evidence page, in Markdown; every number is computed from the runs."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

import numpy as np

from kanbatsu.report.effect import effect, improvement
from kanbatsu.report.evidence.stored import (
    CONFIDENCE,
    ENGLISH,
    MEASURE,
    Evidence,
    compare,
    confidence_in,
    difference,
    kept,
    measured,
    seen,
    shape,
)
from kanbatsu.report.results import StudyResults
from kanbatsu.report.words import agent_name, compact, round_to

PROBES = ("dormant_0.1", "srank", "gradient_norm", "weight_norm")
"""Probes whose last values a page shows, where a study recorded them."""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table; columns of numbers go to the right.

    Example:
        >>> print(table(["arm", "return"], [["dense", "3.00"]]))
        | arm | return |
        | --- | ---: |
        | dense | 3.00 |
    """
    columns = zip(*rows, strict=True)
    numbers = [all(not cell or cell[0] in "+-0123456789" for cell in cells) for cells in columns]
    rule = ["---:" if number else "---" for number in numbers]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, rule, *rows])


def plural(count: int, noun: str) -> str:
    """Write a count with its noun.

    Example:
        >>> plural(1, "seed"), plural(1_000, "seed")
        ('1 seed', '1,000 seeds')
    """
    return f"{count:,} {noun}{'s' * (count != 1)}"


def mean_and_spread(x: np.ndarray) -> str:
    """Write the mean and the standard deviation of some runs, or what there is of them.

    Example:
        >>> mean_and_spread(np.array([1.0, 3.0])), mean_and_spread(np.array([2.0]))
        ('2.00 ± 1.41', '2.00')
    """
    if x.size < 2:
        return mean(x)
    return f"{round_to(float(x.mean()))} ± {round_to(float(x.std(ddof=1)))}"


def mean(values: Iterable[float | None]) -> str:
    """Write the mean of the values that are known; nothing where there is none."""
    known = [value for value in values if value is not None]
    return round_to(statistics.fmean(known)) if known else ""


def arms(study: StudyResults) -> str:
    """Return the table of what each arm trains."""
    rows = []
    for arm in study.arms:
        counts = "; ".join(f"{name} {count:,}" for name, count in kept(arm).items())
        rows.append([arm.name, agent_name(arm.agent), shape(arm), counts])
    return table(["arm", "agent", "networks", "weights kept"], rows)


def results(study: StudyResults, task: str) -> str:
    """Return the table of final returns (or accuracies) on a task, beside those of the control."""
    confidence, control = confidence_in(study), study.control_arm
    rows = []
    for arm in study.arms:
        x = arm.finals(task)
        row = [arm.name, str(x.size), mean_and_spread(x), "", ""]
        if control is not None and arm is not control:
            estimate = compare(arm, control, task, confidence)
            if estimate is not None:
                better = improvement([x], [control.finals(task)], confidence)
                interval = f"[{better.low:.2f}, {better.high:.2f}]"
                row[3:] = difference(estimate), f"{better.value:.2f} {interval}"
        rows.append(row)
    head = ["arm", "seeds", f"final {measured(study)}, mean ± sd", "difference", "P"]
    return table(head, rows)


def curves(study: StudyResults, task: str) -> str:
    """Return the table of the mean return (or accuracy) over seeds at up to nine points of time."""
    steps = sorted({step for arm in study.arms for run in arm.on(task) for step in run.returns})
    shown = [steps[round(i)] for i in np.linspace(0, len(steps) - 1, min(9, len(steps)))]
    rows = []
    for arm in study.arms:
        runs = [run for run in arm.on(task) if run.finished]
        rows.append([arm.name, *(mean(run.returns.get(step) for run in runs) for step in shown)])
    return table([f"mean {measured(study)} at", *(compact(step) for step in shown)], rows)


def probes(study: StudyResults, task: str) -> str:
    """Return the table of each probe at the end of the runs on a task."""
    recorded = {probe for arm in study.arms for run in arm.on(task) for probe in run.probes}
    names = [
        f"{network}/{probe}" for probe in PROBES for network in ("actor", "critic", "classifier")
    ]
    names = [name for name in names if name in recorded]
    rows = []
    for arm in study.arms:
        runs = [run for run in arm.on(task) if run.finished]
        rows.append([arm.name, *(mean(run.last_probe(name) for run in runs) for name in names)])
    return table(["arm", *(name.replace("_", " ") for name in names)], rows) if names else ""


def published(evidence: Evidence) -> str:
    """Return the table of published numbers beside ours; nothing where the notes have none."""
    rows = []
    for entry in evidence.published:
        arm = next(arm for arm in evidence.study.arms if arm.name == entry["arm"])
        reached = [run.returns.get(entry["env_steps"]) for run in arm.on(entry["task"])]
        x, y = np.array([r for r in reached if r is not None]), np.array(entry["returns"])
        agrees = ""
        if min(x.size, y.size) >= 2:
            estimate = effect([x], [y], MEASURE, CONFIDENCE)
            agrees = f"{difference(estimate)}, {'yes' if seen(estimate) == 'open' else 'no'}"
        where = f"{arm.name}, {entry['task']}, {compact(entry['env_steps'])}"
        rows.append([where, mean_and_spread(x), mean_and_spread(y), agrees, entry["source"]])
    head = ["arm, task, env steps", "ours", "published", "difference; is 0 inside?", "source"]
    return table(head, rows) if rows else ""


def cost(study: StudyResults) -> str:
    """Return the table of the time that runs took, and where they ran."""
    rows = []
    for arm in study.arms:
        last = [run.timing[-1] for run in arm.runs if run.finished and run.timing]
        hours = [line["seconds"] / 3600 for line in last]
        updates = [u for line in last if (u := line.get("update_milliseconds")) is not None]
        medians = (f"{statistics.median(x):.2g}" if x else "" for x in (updates, hours))
        rows.append([arm.name, *medians, f"{sum(hours):.2g}"])
    facts = [run.machine for run in study.runs if run.machine is not None]
    where = sorted(
        {f"{m['cpu']}, {plural(m['cores'], 'core')} per run, {m['device']}" for m in facts}
    )
    machines = ENGLISH.listed(where) if where else "?"
    head = ["arm", "ms per update", "hours per run", "hours in all"]
    return f"{table(head, rows)}\n\nWall-clock time of runs, on {machines}."
