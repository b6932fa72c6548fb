"""The page that people read: one self-contained HTML file, and the two JSON files beside it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kanbatsu.files.disk import finite
from kanbatsu.files.store import StudyFolder
from kanbatsu.report import agree, curves, figures, panels, replaced, words
from kanbatsu.report.configuration import configuration
from kanbatsu.report.first import first_page
from kanbatsu.report.glossary import WORDS
from kanbatsu.report.language import Language, Texts, texts
from kanbatsu.report.measures import measure_rows
from kanbatsu.report.results import StudyResults, read_study
from kanbatsu.report.shell import environment, visible
from kanbatsu.report.stages import PLAN, stages_in, write_stages
from kanbatsu.report.summary import shared_unit, summarise, summarise_timing
from kanbatsu.report.verdict import in_words
from kanbatsu.report.wording import titles, worded
from kanbatsu.report.work import at_work

MANY = 4
"""More arms or tasks than this are counted in the opening, not named."""

ONE_PAGE = 2
"""With more tasks than this the returns over each budget go to the appendix."""


def write_report(out: Path, lang: Language = "en") -> Path:
    """Write `summary.json`, `timing.json` and the page from the files of a study alone.

    It may be called at any time: unfinished and failed runs are named as missing. In the folder of
    a proof of concept it does so for each stage, and writes the page over all of them.

    Args:
        out: The folder that `kanbatsu study --out` or `kanbatsu poc run --out` wrote.
        lang: The page's language; numbers and figures are the same in all.

    Returns:
        Where the page is: `report.html`, or `report.<lang>.html` in another language than English.

    Raises:
        FileNotFoundError: The folder holds no study.
    """
    if (out / PLAN).exists() and not StudyFolder(out).holds_study:
        for stage in stages_in(out):
            write_report(stage, lang)
        return write_stages(out, lang)
    study = read_study(out)
    summary, timing = finite(summarise(study)), finite(summarise_timing(study))
    folder = StudyFolder(out)
    folder.write_summary(summary)
    folder.write_timing(timing)
    return folder.write_report(render(study, summary, timing, lang, folder.pictures()), lang)


def render(
    study: StudyResults,
    summary: Mapping[str, Any],
    timing: Mapping[str, Any],
    lang: Language = "en",
    pictures: Sequence[Mapping[str, Any]] = (),
) -> str:
    """Return the page as HTML.

    Args:
        study: The runs, for the figures.
        summary: What `summarise` made of them.
        timing: What `summarise_timing` made of them.
        lang: The page's language.
        pictures: Pictures of arms at work, as `StudyFolder.pictures` gives them.
    """
    t = texts(lang)
    arms = [arm.name for arm in study.arms]
    study = worded(study, lang)
    looks = curves.styles(study)
    finished = len(study.runs) - len(summary["missing"])
    shown = bool(finished) or _any_curve(study)
    verdict = summary.get("verdict")
    matched = verdict["budget"]["matched"] if verdict else None
    summary = {**summary, "comparisons": agree.comparisons(study, summary)}
    verdict_words = in_words(verdict, summary, timing, t, study.cost) if verdict else None
    compared = [words.compared(comparison, t) for comparison in summary["comparisons"]]
    template = environment().get_template("report.html.j2")
    page = template.render(
        t=t,
        study=study,
        opening=_opening(study, finished, t),
        finished=finished,
        planned=len(study.runs),
        missing=[{**run, "state": _state(run["state"], t)} for run in summary["missing"]],
        first=first_page(verdict, summary, timing, t, titles(study, lang), study.cost)
        if verdict
        else None,
        verdict=verdict_words,
        verdict_arm=verdict["arm"] if verdict else None,
        verdict_control=verdict["control"] if verdict else None,
        effect=panels.effect_panel(verdict, looks, t) if verdict else None,
        score_columns=_score_columns(study, t),
        arms=_arms(study, summary, timing, t),
        compared=compared,
        key=[(figures.key(style), name) for name, style in looks.items()],
        replaced=replaced.section(summary["rivals"], t) if "rivals" in summary else None,
        budget_rows=panels.budget_rows(study, summary, t, matched) if shown else [],
        budgets_for_team=verdict_words is not None and len(study.tasks) <= ONE_PAGE,
        final_rows=panels.final_rows(study, summary, t) if shown else [],
        probe_rows=panels.probe_rows(study, t),
        measures=measure_rows(summary),
        pictures=at_work(pictures, dict(zip(arms, (a.name for a in study.arms), strict=True)), t),
        configuration=configuration(study, t),
        machines=[_machine(machine, t) for machine in timing["machines"]],
        versions=_versions(timing["machines"]),
        glossary=[
            (t(f"word.{word}.title"), t(f"word.{word}.text"), source)
            for word, source in WORDS.items()
            if verdict_words is not None or word not in ("verdict", "collapse")
        ],
    )
    return visible(page)


def _opening(study: StudyResults, finished: int, t: Texts) -> str:
    """Say in two plain sentences what was compared."""
    learning = [arm for arm in study.arms if arm is not study.incumbent] or list(study.arms)
    names = [arm.name for arm in learning]
    if len(names) > MANY:
        known = study.control in names
        arms = t(
            "opening.many_arms_control" if known else "opening.many_arms",
            count=len(names),
            **({"control": study.control} if known else {}),
        )
    else:
        arms = t.listed([t("opening.control", arm=n) if n == study.control else n for n in names])
    tasks = (
        t.listed(study.tasks)
        if len(study.tasks) <= MANY
        else t("opening.many_tasks", count=len(study.tasks))
    )
    each = "each_arm_and_task" if len(study.tasks) > 1 else "each" if len(names) > 1 else ""
    sentence = t(
        "opening.sentence",
        arms=arms,
        agents=t.listed(sorted({_agent(arm.agent, t) for arm in learning})),
        tasks=tasks,
        seeds=t.count("seeds", len(study.seeds)),
        each=t(f"opening.{each}") if each else "",
        env_steps=f"{study.env_steps:,}",
        finished=finished,
        runs=t.count("runs", len(study.runs)),
    )
    if study.incumbent is None:
        return sentence
    policy = study.incumbent.config["policy"]
    return t("list.sentences").join([sentence, t("incumbent.opening", policy=policy)])


def _agent(agent: str, t: Texts) -> str:
    return t(f"agent.{agent}") if t.has(f"agent.{agent}") else words.agent_name(agent)


def _state(state: str, t: Texts) -> str:
    return t(f"state.{state}") if t.has(f"state.{state}") else state


def _machine(machine: Mapping[str, Any], t: Texts) -> str:
    return t(
        "machine.line",
        cpu=machine.get("cpu") or t("machine.unknown_cpu"),
        cores=machine.get("cores", "?"),
        device=machine.get("device", "cpu"),
        platform=machine.get("platform") or t("machine.unknown_platform"),
    )


def _any_curve(study: StudyResults) -> bool:
    return any(not math.isnan(value) for run in study.runs for value in run.returns.values())


def _score_columns(study: StudyResults, t: Texts) -> list[str]:
    """Return the titles of the result columns: one over all tasks where that makes sense."""
    return [t("column.all_tasks")] if shared_unit(study.tasks) else list(study.tasks)


def _arms(
    study: StudyResults, summary: Mapping[str, Any], timing: Mapping[str, Any], t: Texts
) -> list[dict[str, Any]]:
    """Return what the tables say of each arm, as text."""
    looks = curves.styles(study)
    comparisons = {comparison["arm"]: comparison for comparison in summary["comparisons"]}
    return [
        {
            "name": arm["name"],
            "control": arm["name"] == study.control,
            "key": figures.key(looks[arm["name"]]),
            "networks": [
                {
                    "name": t(f"network.{name}") if t.has(f"network.{name}") else name,
                    "description": words.describe(network, t),
                    "changed": replaced.changed(network, t),
                    **{key: _count(network[key]) for key in ("kept", "total", "parameters")},
                }
                for name, network in arm["networks"].items()
            ],
            "kept": _count(curves.kept_weights(arm["networks"])),
            "scores": _scores(arm, study, t),
            "improvement": _improvement(comparisons.get(arm["name"])),
            "verdict": words.compared(comparisons[arm["name"]], t).word
            if arm["name"] in comparisons
            else "",
            "dormant": _number(summary["probes"][arm["name"]].get("critic/dormant_0.1")),
            "update_milliseconds": _number(timing["arms"][arm["name"]]["update_milliseconds"]),
            "costs": _costs(arm, timing["arms"][arm["name"]], t),
        }
        for arm in summary["arms"]
    ]


def _costs(arm: Mapping[str, Any], times: Mapping[str, Any], t: Texts) -> list[tuple[str, str]]:
    """Return what an arm's updates and runs take, each with the name of its column."""
    counted = [
        (
            words.DASH if flops is None else words.compact(flops),
            f"{t('column.flops')} ({t(f'column.{kind}')})",
        )
        for kind, flops in arm["flops_per_update"].items()
    ]
    columns = {"update_milliseconds": "update", "env_steps_per_second": "speed"}
    columns |= {"seconds": "seconds"}
    timed = [(_number(times[key]), t(f"column.{name}")) for key, name in columns.items()]
    return counted + timed


def _scores(arm: Mapping[str, Any], study: StudyResults, t: Texts) -> list[tuple[str, str]]:
    """Return the IQM and its interval for each column of results, and the mean where it is one."""
    if shared_unit(study.tasks):
        pooled = arm["aggregate"] or {"iqm": None, "interval": None}
        return [(words.with_interval(pooled["iqm"], pooled["interval"]), "")]
    return [
        (words.with_interval(on["iqm"], on["interval"]), _mean(on["returns"], t))
        for on in (arm["tasks"][task] for task in study.tasks)
    ]


def _mean(returns: Mapping[str, float], t: Texts) -> str:
    if not returns:
        return ""
    return t("result.mean", value=words.round_to(statistics.fmean(returns.values())))


def _improvement(comparison: Mapping[str, Any] | None) -> str:
    if comparison is None:
        return words.DASH
    return words.with_interval(comparison["probability_of_improvement"], comparison["interval"])


def _versions(machines: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return each package with every version that a run of the study used."""
    used: dict[str, set[str]] = {}
    for machine in machines:
        for package, version in machine.get("versions", {}).items():
            used.setdefault(package, set()).add(str(version))
    return [(package, ", ".join(sorted(used[package]))) for package in sorted(used)]


def _count(value: int | None) -> str:
    return words.DASH if value is None else f"{value:,}"


def _number(value: float | int | None) -> str:
    return words.DASH if value is None else words.round_to(value)
