"""The page of each stored study and the list of them, in Markdown.

Every number on a page, and the sentence that sums a comparison up, is computed from the data.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from kanbatsu.report.evidence import replaced, tables
from kanbatsu.report.evidence.stored import (
    ENGLISH,
    Evidence,
    compare,
    comparisons,
    confidence_in,
    difference,
    is_bench,
    measured,
    seen,
    steps,
)
from kanbatsu.report.evidence.tables import plural
from kanbatsu.report.results import ArmResults, StudyResults
from kanbatsu.report.rivals import rivals
from kanbatsu.report.words import DASH, agent_name

INDEX = """\
# Evidence

Studies that were run with kanbatsu. `make evidence` writes these pages from the results in \
[evidence](../../evidence), and the tests check that pages and results agree.

On each task every arm is compared with its study's control: it returns more (higher) or less \
(lower) where the whole interval of the difference lies on one side of zero; else the comparison \
stays open. A control can be dense or sparse, so the sentences below the table say who was ahead.

"""


def render(stored: Sequence[Evidence]) -> dict[str, str]:
    """Return the text of every page by its file's name."""
    return {"README.md": index(stored)} | {f"{it.name}.md": page(it) for it in stored}


def index(stored: Sequence[Evidence]) -> str:
    """Return the list of all studies, each with the sentences that its data support."""
    parts = [overview(stored)]
    for evidence in stored:
        parts += [f"## [{evidence.title}]({evidence.name}.md)", _listed(sentences(evidence.study))]
    return INDEX + "\n\n".join(parts) + "\n"


def overview(stored: Sequence[Evidence]) -> str:
    """Return a table of all studies: what was trained, and how the comparisons came out."""
    rows = []
    for evidence in stored:
        study = evidence.study
        confidence = confidence_in(study)
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
    return tables.table(head, rows)


def page(evidence: Evidence) -> str:
    """Return the page of one study."""
    study = evidence.study
    ended = [run for run in study.runs if run.finished]
    published = tables.published(evidence)
    found = rivals(study)
    inside = [
        f"### {task}\n\n{text}" for task in study.tasks if (text := tables.probes(study, task))
    ]
    command = "plasticity" if is_bench(study) else "study"
    again = f"kanbatsu {command} evidence/{evidence.name}/study.toml --out out/{evidence.name}"
    shown = "Accuracy and" if is_bench(study) else "Return and the critic's"
    parts = [
        f"# {evidence.title}",
        study.question,
        _listed(sentences(study)),
        f"![{shown} dormant ratio over {steps(study)}]({evidence.name}.svg)",
        "Means over seeds at each evaluation and probe, with 95 % bootstrap intervals. Those are "
        "too narrow for few seeds: whether arms differ is read from the tables below.",
        "## Design",
        evidence.design.strip(),
        tables.arms(study),
        f"{plural(len(study.tasks), 'task')} "
        f"({ENGLISH.listed([f'`{task}`' for task in study.tasks])}), "
        f"{study.env_steps:,} {steps(study)}, {plural(len(study.seeds), 'seed')} planned. "
        f"{len(ended)} of {plural(len(study.runs), 'run')} finished.",
        found and "## What it replaces",
        found and replaced.how_chosen(found),
        *([replaced.comparison(found, task) for task in study.tasks] if found else ()),
        "## Results",
        _how_to_read(study),
        *(
            f"### {task}\n\n{tables.results(study, task)}\n\n{tables.curves(study, task)}"
            for task in study.tasks
        ),
        inside and "## Inside the networks\n\nAt the end of the runs, averaged over seeds.",
        *inside,
        published and f"## Beside published numbers\n\n{published}",
        "## Cost",
        tables.cost(study),
        "## What this does not show",
        _listed(evidence.limits),
        "## Repeat it",
        f"```sh\n{again}\n```",
        f"Data: [evidence/{evidence.name}](../../evidence/{evidence.name}).",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def sentences(study: StudyResults) -> Iterator[str]:
    """Say what each comparison with the control shows, and no more; without one, each mean.

    Of a study of remedies, they speak of the best dose of each.
    """
    if found := rivals(study):
        yield from replaced.sentences(found)
        return
    if study.control_arm is None:
        for task in study.tasks:
            for arm in study.arms:
                x = arm.finals(task)
                over = plural(x.size, "seed")
                yield f"{task}: **{arm.name}** returns {tables.mean_and_spread(x)}, {over}."
    for task, arm, control in comparisons(study):
        yield f"{task}: {sentence(arm, control, task, confidence_in(study), measured(study))}"


def sentence(
    arm: ArmResults, control: ArmResults, task: str, confidence: float, noun: str = "return"
) -> str:
    """Sum one comparison up by its interval."""
    estimate = compare(arm, control, task, confidence)
    if estimate is None:
        return f"**{arm.name}** against {control.name} is not decided: too few runs have finished."
    side = seen(estimate)
    claim = (
        f"no difference can be seen between **{arm.name}** and {control.name}"
        if side == "open"
        else f"{side} {noun} with **{arm.name}** than with {control.name}"
    )
    seeds = f"{arm.finals(task).size} against {plural(control.finals(task).size, 'seed')}"
    return f"{claim}: {difference(estimate)}, {seeds}."


def _how_to_read(study: StudyResults) -> str:
    text = (
        "Final accuracy: the mean of what each of the last tasks ended with."
        if is_bench(study)
        else "Final return: the mean of the last evaluation's episodes."
    )
    if not (compared := len(comparisons(study))):
        return text
    return (
        f"{text} Differences are of means, with Welch's interval; P is the probability that a run "
        "of the arm returns more than one of the control. The intervals hold together at 95 % "
        f"(Bonferroni's correction for {plural(compared, 'comparison')})."
    )


def _listed(items: Sequence[str] | Iterator[str]) -> str:
    return "\n".join(f"- {item}" for item in items)
