"""Write docs/evidence from the stored studies beside this file, and from nothing else.

    make evidence

A study is a folder as `kanbatsu archive` leaves it, with the file that it was run from (study.toml)
and notes.toml: what a reader should know that data cannot say. Every number on a page, and the
sentence that sums a comparison up, is computed here.
"""

from __future__ import annotations

import statistics
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kanbatsu.report.effect import Effect, effect, improvement
from kanbatsu.report.language import texts
from kanbatsu.report.results import ArmResults, StudyResults, read_study
from kanbatsu.report.words import DASH, agent_name, compact, describe, round_to

HERE = Path(__file__).parent
PAGES = HERE.parent / "docs" / "evidence"
ENGLISH = texts("en")
MEASURE, CONFIDENCE = "mean_difference", 0.95
"""Of all comparisons of a study together, and of each published number alone."""
PROBES = ("dormant_0.1", "srank", "gradient_norm", "weight_norm")
"""Shown at the end of the runs, where a study recorded them."""


@dataclass(frozen=True)
class Notes:
    """What data cannot say of a study."""

    title: str
    design: str
    """What was fixed before the run, and what was changed since."""
    limits: tuple[str, ...]
    """What the study does not show."""
    published: tuple[Mapping[str, Any], ...] = ()
    """`arm`, `task`, `env_steps`, `returns` (one per seed), `source`."""


@dataclass(frozen=True)
class Evidence:
    """One stored study."""

    name: str
    notes: Notes
    study: StudyResults


def main() -> None:
    """Write every page and the list of them; remove pages whose study is gone."""
    write_only(render_all(HERE), "*.md")


def write_only(texts: Mapping[str, str], pattern: str) -> None:
    """Write files by their names, and remove others of the pattern."""
    PAGES.mkdir(parents=True, exist_ok=True)
    for path in PAGES.glob(pattern):
        if path.name not in texts:
            path.unlink()
    for name, text in texts.items():
        (PAGES / name).write_text(text)


def render_all(root: Path) -> dict[str, str]:
    """Return the text of every page by its file's name."""
    stored = [read(path.parent) for path in sorted(root.glob("*/study.json"))]
    pages = {f"{evidence.name}.md": page(evidence) for evidence in stored}
    return {"README.md": index(stored), **pages}


def read(folder: Path) -> Evidence:
    """Read a stored study and its notes."""
    table = tomllib.loads((folder / "notes.toml").read_text())
    notes = Notes(
        title=table["title"],
        design=table["design"].strip(),
        limits=tuple(table["limits"]),
        published=tuple(table.get("published", ())),
    )
    return Evidence(folder.name, notes, read_study(folder))


def index(stored: Sequence[Evidence]) -> str:
    """Return the list of all studies, each with the sentences that its data support."""
    lines = [
        "# Evidence",
        "",
        "Studies that were run with kanbatsu. `make evidence` writes these pages from the results "
        "in [evidence](../../evidence), and the tests check that pages and results agree.",
        "",
        "On each task every arm is compared with its study's control: it returns more (higher) or "
        "less (lower) where the whole interval of the difference lies on one side of zero; else "
        "the comparison stays open. A control can be dense or sparse, so the sentences below the "
        "table say who was ahead.",
        "",
        overview(stored),
        "",
    ]
    for evidence in stored:
        lines += [f"## [{evidence.notes.title}]({evidence.name}.md)", ""]
        lines += [*(f"- {sentence}" for sentence in sentences(evidence.study)), ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def overview(stored: Sequence[Evidence]) -> str:
    """Return a table of all studies: what was trained, and how the comparisons came out."""
    rows = []
    for evidence in stored:
        study = evidence.study
        confidence = confidence_of_each(study)
        counts = Counter(
            seen(compare(arm, control, task, confidence))
            for task, arm, control in comparisons(study)
        )
        rows.append(
            [
                f"[{evidence.name}]({evidence.name}.md)",
                ENGLISH.listed(sorted({agent_name(arm.agent) for arm in study.arms})),
                ", ".join(study.tasks),
                f"{study.env_steps:,}",
                str(len(study.seeds)),
                study.control or DASH,
                *(str(counts[name]) for name in ("higher", "lower", "open")),
            ]
        )
    head = ["study", "agent", "tasks", "env steps", "seeds", "control", "higher", "lower", "open"]
    return table(head, rows)


def page(evidence: Evidence) -> str:
    """Return the page of one study."""
    study, notes = evidence.study, evidence.notes
    ended = [run for run in study.runs if run.finished]
    parts = [
        f"# {notes.title}",
        study.question,
        "\n".join(f"- {sentence}" for sentence in sentences(study)),
        f"![Return and the critic's dormant ratio over env steps]({evidence.name}.svg)",
        "Means over seeds at each evaluation and probe, with 95 % bootstrap intervals. Those are "
        "too narrow for few seeds: whether arms differ is read from the tables below.",
        "## Design",
        notes.design,
        _arms(study),
        f"{plural(len(study.tasks), 'task')} "
        f"({ENGLISH.listed([f'`{task}`' for task in study.tasks])}), "
        f"{study.env_steps:,} env steps, {plural(len(study.seeds), 'seed')} planned. "
        f"{len(ended)} of {plural(len(study.runs), 'run')} finished.",
        "## Results",
        _how_to_read(study),
        *(
            f"### {task}\n\n{_results(study, task)}\n\n{_curves(study, task)}"
            for task in study.tasks
        ),
        "## Inside the networks",
        "At the end of the runs, averaged over seeds.",
        *(f"### {task}\n\n{_probes(study, task)}" for task in study.tasks),
        *_published(evidence),
        "## Cost",
        _cost(study),
        "## What this does not show",
        "\n".join(f"- {limit}" for limit in notes.limits),
        "## Repeat it",
        f"```sh\nkanbatsu study evidence/{evidence.name}/study.toml --out out/{evidence.name}\n```",
        f"Data: [evidence/{evidence.name}](../../evidence/{evidence.name}).",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _how_to_read(study: StudyResults) -> str:
    text = "Final return: the mean of the last evaluation's episodes."
    if not (compared := len(comparisons(study))):
        return text
    return (
        f"{text} Differences are of means, with Welch's interval; P is the probability that a run "
        "of the arm returns more than one of the control. The intervals hold together at 95 % "
        f"(Bonferroni's correction for {plural(compared, 'comparison')})."
    )


def sentences(study: StudyResults) -> Iterator[str]:
    """Say what each comparison with the control shows, and no more; without one, each mean."""
    if control_of(study) is None:
        for task in study.tasks:
            for arm in study.arms:
                x = finals(arm, task)
                over = plural(x.size, "seed")
                yield f"{task}: **{arm.name}** returns {_mean_and_spread(x)}, {over}."
    for task, arm, control in comparisons(study):
        yield f"{task}: {sentence(arm, control, task, confidence_of_each(study))}"


def comparisons(study: StudyResults) -> list[tuple[str, ArmResults, ArmResults]]:
    """Return what a study compares: task, arm and control, or nothing where it has no control."""
    control = control_of(study)
    if control is None:
        return []
    return [
        (task, arm, control) for task in study.tasks for arm in study.arms if arm is not control
    ]


def control_of(study: StudyResults) -> ArmResults | None:
    """Return the arm with which the others are compared."""
    return next((arm for arm in study.arms if arm.name == study.control), None)


def confidence_of_each(study: StudyResults) -> float:
    """Return the confidence of one interval with which all of a study hold together."""
    return 1 - (1 - CONFIDENCE) / max(1, len(comparisons(study)))


def compare(arm: ArmResults, control: ArmResults, task: str, confidence: float) -> Effect | None:
    """Return the difference of two arms on a task; nothing where too few runs have finished."""
    x, y = finals(arm, task), finals(control, task)
    return effect([x], [y], MEASURE, confidence) if min(x.size, y.size) >= 2 else None


def seen(found: Effect | None) -> Literal["higher", "lower", "open"]:
    """Say on which side of zero an interval lies.

    Example:
        >>> seen(Effect(3.0, 1.0, 5.0)), seen(Effect(3.0, -1.0, 7.0)), seen(None)
        ('higher', 'open', 'open')
    """
    if found is None:
        return "open"
    return "higher" if found.low > 0 else "lower" if found.high < 0 else "open"


def sentence(arm: ArmResults, control: ArmResults, task: str, confidence: float) -> str:
    """Sum one comparison up by its interval."""
    found = compare(arm, control, task, confidence)
    if found is None:
        return f"**{arm.name}** against {control.name} is not decided: too few runs have finished."
    what = {
        "higher": f"higher return with **{arm.name}** than with {control.name}",
        "lower": f"lower return with **{arm.name}** than with {control.name}",
        "open": f"no difference can be seen between **{arm.name}** and {control.name}",
    }
    seeds = f"{finals(arm, task).size} against {plural(finals(control, task).size, 'seed')}"
    return f"{what[seen(found)]}: {difference(found)}, {seeds}."


def difference(found: Effect) -> str:
    """Write a difference and its interval.

    Example:
        >>> difference(Effect(3.0, -1.0, 7.0))
        '+3.00 [-1.00, +7.00]'
    """
    return f"{signed(found.value)} [{signed(found.low)}, {signed(found.high)}]"


def finals(arm: ArmResults, task: str) -> np.ndarray:
    """Return the final returns of an arm on a task, by seed."""
    returns = [run.final_return for run in arm.on(task)]
    return np.array([value for value in returns if value is not None])


def kept(arm: ArmResults) -> dict[str, int]:
    """Return the weights that each network of an arm keeps, by the first run that says so."""
    counted = next((run.networks for run in arm.runs if run.networks), {})
    return {name: network["kept"] for name, network in counted.items()}


def signed(value: float) -> str:
    """Write a difference with its sign.

    Example:
        >>> signed(3.0), signed(-12.34)
        ('+3.00', '-12.3')
    """
    return f"{'+' if value >= 0 else '-'}{round_to(abs(value))}"


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


def _arms(study: StudyResults) -> str:
    rows = []
    for arm in study.arms:
        shapes = [
            f"{name} {describe(value, ENGLISH)}"
            for name, value in sorted(arm.config.items())
            if isinstance(value, Mapping) and "width" in value
        ]
        counts = [f"{name} {count:,}" for name, count in sorted(kept(arm).items())]
        rows.append([arm.name, agent_name(arm.agent), "; ".join(shapes), "; ".join(counts)])
    return table(["arm", "agent", "networks", "weights kept"], rows)


def _results(study: StudyResults, task: str) -> str:
    confidence = confidence_of_each(study)
    control = control_of(study)
    rows = []
    for arm in study.arms:
        x = finals(arm, task)
        row = [arm.name, str(x.size), _mean_and_spread(x), "", ""]
        if control is not None and arm is not control:
            found = compare(arm, control, task, confidence)
            if found is not None:
                better = improvement([x], [finals(control, task)], confidence)
                row[3] = difference(found)
                row[4] = f"{better.value:.2f} [{better.low:.2f}, {better.high:.2f}]"
        rows.append(row)
    return table(["arm", "seeds", "final return, mean ± sd", "difference", "P"], rows)


def _curves(study: StudyResults, task: str) -> str:
    """Write the mean return over seeds at up to nine points of time."""
    steps = sorted({step for arm in study.arms for run in arm.on(task) for step in run.returns})
    shown = [steps[round(i)] for i in np.linspace(0, len(steps) - 1, min(9, len(steps)))]
    rows = []
    for arm in study.arms:
        runs = [run for run in arm.on(task) if run.finished]
        cells = []
        for step in shown:
            there = [run.returns[step] for run in runs if step in run.returns]
            cells.append(round_to(statistics.fmean(there)) if there else "")
        rows.append([arm.name, *cells])
    return table(["mean return at", *(compact(step) for step in shown)], rows)


def _probes(study: StudyResults, task: str) -> str:
    recorded = {probe for arm in study.arms for run in arm.on(task) for probe in run.probes}
    names = [
        f"{network}/{probe}"
        for probe in PROBES
        for network in ("actor", "critic")
        if f"{network}/{probe}" in recorded
    ]
    rows = []
    for arm in study.arms:
        runs = [run for run in arm.on(task) if run.finished]
        last = [[list(run.probes[name].values())[-1] for run in runs] for name in names]
        rows.append([arm.name, *(round_to(statistics.fmean(x)) if x else "" for x in last)])
    return table(["arm", *(name.replace("_", " ") for name in names)], rows)


def _published(evidence: Evidence) -> list[str]:
    """Set published numbers beside ours, where the notes have some."""
    rows = []
    for entry in evidence.notes.published:
        arm = next(arm for arm in evidence.study.arms if arm.name == entry["arm"])
        reached = [run.returns.get(entry["env_steps"]) for run in arm.on(entry["task"])]
        x, y = np.array([r for r in reached if r is not None]), np.array(entry["returns"])
        agrees = ""
        if min(x.size, y.size) >= 2:
            found = effect([x], [y], MEASURE, CONFIDENCE)
            inside = "yes" if seen(found) == "open" else "no"
            agrees = f"{difference(found)}, {inside}"
        where = f"{arm.name}, {entry['task']}, {compact(entry['env_steps'])}"
        rows.append([where, _mean_and_spread(x), _mean_and_spread(y), agrees, entry["source"]])
    if not rows:
        return []
    head = ["arm, task, env steps", "ours", "published", "difference; is 0 inside?", "source"]
    return ["## Beside published numbers", table(head, rows)]


def _cost(study: StudyResults) -> str:
    rows = []
    for arm in study.arms:
        last = [run.timing[-1] for run in arm.runs if run.finished and run.timing]
        hours = [line["seconds"] / 3600 for line in last]
        updates = [u for line in last if (u := line.get("update_milliseconds")) is not None]
        rows.append(
            [
                arm.name,
                f"{statistics.median(updates):.2g}" if updates else "",
                f"{statistics.median(hours):.2g}" if hours else "",
                f"{sum(hours):.2g}",
            ]
        )
    facts = [run.machine for run in study.runs if run.machine is not None]
    where = sorted(
        {f"{m['cpu']}, {plural(m['cores'], 'core')} per run, {m['device']}" for m in facts}
    )
    head = ["arm", "ms per update", "hours per run", "hours in all"]
    machines = ENGLISH.listed(where) if where else "?"
    return f"{table(head, rows)}\n\nWall-clock time of runs, on {machines}."


def _mean_and_spread(x: np.ndarray) -> str:
    if x.size < 2:
        return round_to(float(x[0])) if x.size else ""
    return f"{round_to(float(x.mean()))} ± {round_to(float(x.std(ddof=1)))}"


if __name__ == "__main__":
    main()
