"""Pilot, search, confirmation: each an ordinary study in a folder of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kanbatsu.conduct import carry_out
from kanbatsu.engine.place import PlaceConfig
from kanbatsu.files.disk import finite, write_json
from kanbatsu.files.lock import StudyError
from kanbatsu.files.store import StudyFolder
from kanbatsu.files.tables import RecordError, to_dict
from kanbatsu.forecast.estimate import Range, estimate
from kanbatsu.forecast.pilot import Speeds, pilot, read_speeds
from kanbatsu.machine import usable_cores
from kanbatsu.poc.claim import claim
from kanbatsu.poc.plan import Poc
from kanbatsu.poc.search import Round, rank, rounds
from kanbatsu.report.decision import verdict
from kanbatsu.report.effect import effect
from kanbatsu.report.judge import interval, number, scores, threshold_of
from kanbatsu.report.language import LANGUAGES, Language, texts
from kanbatsu.report.results import INCUMBENT, ArmResults, read_study
from kanbatsu.report.stages import VERDICT, write_stages
from kanbatsu.study.budget import matches, solve
from kanbatsu.study.plan import Study, check_study
from kanbatsu.study.wording import Wording

PILOT_SECONDS = 1.0
"""Seconds for which each arm learns in the pilot, about."""


@dataclass
class Progress:
    """One call of `run_poc`."""

    poc: Poc
    study: Study
    """The plan's study with every match solved."""
    shorter: Study
    """The same with the env steps of the search, for which a match comes to others."""
    out: Path
    command: str
    say: Callable[[str], Any]
    lang: Language = "en"
    chosen: list[dict[str, Any]] = field(default_factory=list)
    """What each round of the search ended with."""

    @property
    def workers(self) -> int:
        """Runs at the same time."""
        return self.poc.budget.workers or len(usable_cores())

    def carry_out(self, name: str, study: Study) -> Path:
        """Run what is missing of a stage and write its report.

        Raises:
            StudyError: A run of the pilot failed.
        """
        self.say(f"\n{name}")
        out, place = self.out / name, PlaceConfig(workers=self.workers)
        outcome = carry_out(study, out, place=place, command=self.command, lang=self.lang)
        if not outcome.complete and name == "pilot":
            raise StudyError(
                f"runs of the pilot failed; {outcome.page} names them. Repair it, "
                "and the same command tries them again"
            )
        return out


def run_poc(
    poc: Poc,
    out: Path,
    command: str,
    say: Callable[[str], Any],
    lang: Language = "en",
) -> dict[str, Any]:
    """Carry out what is missing of a proof of concept, up to its verdict.

    Every stage depends on the results of those before it alone, so that a plan that was stopped
    anywhere ends as if it had not been.

    Args:
        poc: The plan.
        out: Its folder; made where there is none.
        command: What a user types to get it again.
        say: Where lines for people go.
        lang: Language of the reports.

    Returns:
        What `verdict.json` holds: the verdict, the stage that it comes from, and the search.

    Raises:
        RecordError: A run cannot work, or the plan does not fit its budget.
        StudyError: The folder holds another plan, or a run of the pilot failed.
    """
    study = _solve(poc.study, out / "confirm")
    shorter = study
    if poc.search.env_steps is not None:
        ends = dataclasses.replace(poc.study, env_steps=poc.search.env_steps)
        shorter = _solve(ends, out / "search-1")  # which has every candidate
    check_study(study)
    claim(poc, study, out)
    for line in matches(study):
        say(line)
    progress = Progress(poc, study, shorter, out, command, say, lang)
    planned = rounds(
        len(poc.candidates), poc.search.seeds, poc.search.finalists, poc.first_search_seed
    )
    _refuse_what_cannot_fit(progress, planned)
    finalists, x, y = _search(progress, planned)
    stopped = _hopeless(progress, finalists, x, y)
    end = stopped or _confirm(progress, finalists, planned)
    write_json(out / VERDICT, finite(end))
    write_stages(out, lang)
    return end


def _solve(study: Study, out: Path) -> Study:
    """Solve every match, as the study in a folder has it where there is one."""
    old = StudyFolder(out)
    return solve(study, old.read_study() if old.holds_study else None)


def _refuse_what_cannot_fit(progress: Progress, planned: Sequence[Round]) -> None:
    """Time every arm, and hold what is planned against the hours that there are.

    Raises:
        RecordError: It does not fit; the message says what would.
    """
    poc = progress.poc
    first = dataclasses.replace(progress.study, seeds=(poc.first_search_seed,))
    short = pilot(first, PILOT_SECONDS, 1)
    out = progress.carry_out("pilot", short)
    speeds = read_speeds(short, out)
    hours = [sum(each) for each in zip(*_hours(progress, planned, speeds), strict=True)]
    low, expected, high = hours
    progress.say(
        f"search and confirmation: about {expected:.2g} hours ({low:.2g} to {high:.2g}), "
        f"{progress.workers} runs at a time; the budget is {poc.budget.hours:g} hours"
    )
    if expected > poc.budget.hours:
        share = poc.budget.hours / expected
        raise RecordError(
            f"the plan does not fit: it needs about {expected:.2g} hours, and budget.hours is "
            f"{poc.budget.hours:g}. What would fit: env_steps = "
            f"{_round_down(share * poc.study.env_steps):,}, or about {share:.0%} of the candidates "
            f"and seeds, or budget.hours = {1.1 * expected:.2g}"
        )


def _hours(progress: Progress, planned: Sequence[Round], speeds: Speeds) -> list[Range]:
    """Return what each stage takes if the slowest candidates go on: nobody knows which will."""
    poc, study = progress.poc, progress.study
    slowest = sorted(
        poc.candidates, key=lambda name: -sum(speeds[name, task].update for task in study.tasks)
    )
    stages = [_round_study(progress, slowest[: each.candidates], each) for each in planned]
    stages.append(_confirm_study(progress, slowest[: poc.search.finalists]))
    return [estimate(stage, speeds, progress.workers).hours for stage in stages]


def _search(
    progress: Progress, planned: Sequence[Round]
) -> tuple[list[str], list[ArmResults], ArmResults | None]:
    """Halve the candidates until the finalists are left; return them, their runs, the control's."""
    poc = progress.poc
    names = poc.candidates
    runs: dict[str, ArmResults] = {}
    rule = to_dict(poc.rule)
    for index, each in enumerate(planned):
        study = _round_study(progress, names, each)
        results = read_study(progress.carry_out(f"search-{index + 1}", study))
        for arm in results.arms:
            before = runs[arm.name].runs if arm.name in runs else ()
            runs[arm.name] = dataclasses.replace(arm, runs=before + arm.runs)
        order = rank([runs[name] for name in names], runs[poc.control], progress.study.tasks, rule)
        left = planned[index + 1].candidates if index + 1 < len(planned) else poc.search.finalists
        names = [name for name in poc.candidates if name in order[:left]]
        progress.chosen.append({"stage": f"search-{index + 1}", "order": order, "go_on": names})
        progress.say(f"best first: {', '.join(order)}; go on: {', '.join(names)}")
    return names, [runs[name] for name in names if name in runs], runs.get(poc.control)


def _hopeless(
    progress: Progress, finalists: list[str], x: list[ArmResults], y: ArmResults | None
) -> dict[str, Any] | None:
    """Return the verdict of a search that no candidate can come out of as a winner, or None."""
    poc, tasks = progress.poc, progress.study.tasks
    if not poc.stop.hopeless or y is None:
        return None
    rule = to_dict(poc.rule)
    effects = {
        arm.name: effect(scores(arm, tasks), scores(y, tasks), rule["measure"], rule["confidence"])
        for arm in x
        if min(task.size for side in (arm, y) for task in scores(side, tasks)) >= poc.rule.seeds
    }
    if set(effects) != set(finalists) or any(
        not each.high < threshold_of(rule) for each in effects.values()
    ):
        return None
    best = max(effects, key=lambda name: float(effects[name].value))
    progress.say(
        "the search was hopeless: even the best candidate's interval lies below the threshold, so "
        "there is nothing to confirm"
    )
    measured = {
        "measure": rule["measure"],
        "value": number(effects[best].value),
        "interval": interval(effects[best].low, effects[best].high),
    }
    rejected = {"decision": "reject", "arm": best, "control": poc.control, "effect": measured}
    return {"stage": "search", "verdict": rejected, "search": progress.chosen}


def _confirm(progress: Progress, finalists: list[str], planned: Sequence[Round]) -> dict[str, Any]:
    study = _confirm_study(progress, finalists)
    tried, seeds = len(progress.poc.candidates), sum(len(each.seeds) for each in planned)
    if planned:
        study = _say_who_was_chosen(study, finalists, tried, seeds)
    results = read_study(progress.carry_out("confirm", study))
    return {"stage": "confirm", "verdict": verdict(results), "search": progress.chosen}


def _say_who_was_chosen(study: Study, finalists: Sequence[str], tried: int, seeds: int) -> Study:
    """Add to the study's note, in every language, how the finalists came out of the search."""
    notes: dict[str, Wording] = {}
    for language in LANGUAGES:
        t = texts(language)
        own = study.text.get(language, Wording())
        names = t.listed([own.arm.get(name, name) for name in finalists])
        chosen = t("stages.chosen", names=names, tried=tried, seeds=t.count("seeds", seeds))
        note = t("list.sentences").join(filter(None, [own.note or study.note, chosen]))
        notes[language] = dataclasses.replace(own, note=note)
    return dataclasses.replace(study, note=notes["en"].note, text=notes)


def _round_study(progress: Progress, names: Sequence[str], each: Round) -> Study:
    poc, study = progress.poc, progress.shorter
    return dataclasses.replace(
        study,
        seeds=each.seeds,
        control=poc.control,
        decision=None,
        arms={name: study.arms[name] for name in (poc.control, *names)},
    )


def _confirm_study(progress: Progress, finalists: Sequence[str]) -> Study:
    poc, study = progress.poc, progress.study
    return dataclasses.replace(
        study,
        control=poc.control,
        decision=dataclasses.replace(poc.rule, arms=()),
        arms={
            name: study.arms[name]
            for name in (poc.control, *finalists, INCUMBENT)
            if name in study.arms
        },
    )


def _round_down(env_steps: float) -> int:
    """Round to two digits, down.

    Example:
        >>> _round_down(12_345.6)
        12000
    """
    whole = int(env_steps)
    return whole - whole % 10 ** max(len(str(whole)) - 2, 0)
