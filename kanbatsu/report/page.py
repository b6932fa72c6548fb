"""The page that people read: one self-contained HTML file, and the two JSON files beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from kanbatsu.report import figures, panels, words
from kanbatsu.report.glossary import GLOSSARY
from kanbatsu.report.results import StudyResults, read_study
from kanbatsu.report.summary import shared_unit, summarise, summarise_timing
from kanbatsu.study.store import StudyFolder, finite

STATES = {
    "failed": "failed",
    "running": "unfinished: still running, or stopped",
    "not started": "not started",
    "finished": "finished without a result",
}
"""How the page says the state of a missing run."""


MANY = 4
"""More arms or tasks than this are counted in the opening, not named."""


def write_report(out: Path) -> None:
    """Write `summary.json`, `timing.json` and `report.html` from the files of a study alone.

    It may be called at any time: unfinished and failed runs are named as missing.

    Args:
        out: The folder that `kanbatsu study --out` wrote.

    Raises:
        FileNotFoundError: The folder holds no study.
    """
    study = read_study(out)
    summary, timing = finite(summarise(study)), finite(summarise_timing(study))
    folder = StudyFolder(out)
    folder.write_summary(summary)
    folder.write_timing(timing)
    folder.write_report(render(study, summary, timing))


def render(study: StudyResults, summary: Mapping[str, Any], timing: Mapping[str, Any]) -> str:
    """Return the page as HTML.

    Args:
        study: The runs, for the figures.
        summary: What `summarise` made of them.
        timing: What `summarise_timing` made of them.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    finished = len(study.runs) - len(summary["missing"])
    template = environment.get_template("report.html.j2")
    return template.render(
        study=study,
        opening=_opening(study, finished),
        finished=finished,
        planned=len(study.runs),
        missing=[
            {**run, "state": STATES.get(run["state"], run["state"])} for run in summary["missing"]
        ],
        score_columns=_score_columns(study),
        arms=_arms(study, summary, timing),
        verdicts=[words.verdict(comparison) for comparison in summary["comparisons"]],
        key=[(figures.key(style), name) for name, style in panels.styles(study).items()],
        return_rows=panels.return_rows(study, summary) if finished or _any_curve(study) else [],
        probe_rows=panels.probe_rows(study),
        configuration=_configuration(study),
        machines=timing["machines"],
        versions=_versions(timing["machines"]),
        glossary=GLOSSARY,
    )


def _opening(study: StudyResults, finished: int) -> str:
    """Say in two plain sentences what was compared."""
    names = [arm.name for arm in study.arms]
    if len(names) > MANY:
        arms = f"{len(names)} arms"
        arms += f" ({study.control} is the control)" if study.control in names else ""
    else:
        arms = words.listed([f"{n} (control)" if n == study.control else n for n in names])
    tasks = (
        words.listed(list(study.tasks)) if len(study.tasks) <= MANY else f"{len(study.tasks)} tasks"
    )
    each = " per arm and task" if len(study.tasks) > 1 else " each" if len(names) > 1 else ""
    agents = words.listed(sorted({arm.agent.upper() for arm in study.arms}))
    return (
        f"{arms}, trained with {agents} on {tasks}: "
        f"{words.plural(len(study.seeds), 'seed')}{each}, {study.env_steps:,} env steps per run. "
        f"{finished} of {words.plural(len(study.runs), 'run')} finished."
    )


def _any_curve(study: StudyResults) -> bool:
    return any(not math.isnan(value) for run in study.runs for value in run.returns.values())


def _score_columns(study: StudyResults) -> list[str]:
    """Return the titles of the result columns: one over all tasks where that makes sense."""
    return ["all tasks, return / 1000"] if shared_unit(study.tasks) else list(study.tasks)


def _arms(
    study: StudyResults, summary: Mapping[str, Any], timing: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return what the tables say of each arm, as text."""
    looks = panels.styles(study)
    comparisons = {comparison["arm"]: comparison for comparison in summary["comparisons"]}
    return [
        {
            "name": arm["name"],
            "control": arm["name"] == study.control,
            "key": figures.key(looks[arm["name"]]),
            "networks": [
                {
                    "name": name,
                    "description": words.describe(network),
                    **{key: _count(network[key]) for key in ("kept", "total", "parameters")},
                }
                for name, network in arm["networks"].items()
            ],
            "kept": _count(panels.kept_weights(arm["networks"])),
            "scores": _scores(arm, study),
            "improvement": _improvement(comparisons.get(arm["name"])),
            "verdict": words.verdict(comparisons[arm["name"]]).word
            if arm["name"] in comparisons
            else "",
            "dormant": _number(summary["probes"][arm["name"]].get("critic/dormant_0.1")),
            "flops": {
                kind: words.DASH if flops is None else words.compact(flops)
                for kind, flops in arm["flops_per_update"].items()
            },
            **{key: _number(value) for key, value in timing["arms"][arm["name"]].items()},
        }
        for arm in summary["arms"]
    ]


def _scores(arm: Mapping[str, Any], study: StudyResults) -> list[str]:
    if shared_unit(study.tasks):
        estimates = [arm["aggregate"] or {"iqm": None, "interval": None}]
    else:
        estimates = [arm["tasks"][task] for task in study.tasks]
    return [words.with_interval(estimate["iqm"], estimate["interval"]) for estimate in estimates]


def _improvement(comparison: Mapping[str, Any] | None) -> str:
    if comparison is None:
        return words.DASH
    return words.with_interval(comparison["probability_of_improvement"], comparison["interval"])


def _configuration(study: StudyResults) -> list[dict[str, Any]]:
    """Return one row per setting: its value in each arm, and whether it differs from control's."""
    flat = {
        arm.name: {"agent": arm.agent, **_flatten(arm.config), **_flatten({"train": arm.train})}
        for arm in study.arms
    }
    reference = next(iter(flat.values()), {})
    names = sorted({name for settings in flat.values() for name in settings})
    return [
        {
            "name": name,
            "values": [
                (
                    _setting(settings.get(name)),
                    settings.get(name) != reference.get(name),
                )
                for settings in flat.values()
            ],
        }
        for name in names
    ]


def _flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings under dotted names."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _versions(machines: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return each package with every version that a run of the study used."""
    found: dict[str, set[str]] = {}
    for machine in machines:
        for package, version in machine.get("versions", {}).items():
            found.setdefault(package, set()).add(str(version))
    return [(package, ", ".join(sorted(found[package]))) for package in sorted(found)]


def _setting(value: Any) -> str:
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _count(value: int | None) -> str:
    return words.DASH if value is None else f"{value:,}"


def _number(value: float | int | None) -> str:
    return words.DASH if value is None else words.round_to(value)
