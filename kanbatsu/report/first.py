"""The first page: one answer for who decides, in words that need no statistics.

Every sentence comes from the numbers of a verdict; nothing is said that they do not hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kanbatsu.report.cost import Prices, money
from kanbatsu.report.judge import threshold_of
from kanbatsu.report.language import Texts
from kanbatsu.report.next_step import next_step, what_changes
from kanbatsu.report.plain import apart, beside, lasting, repetitions
from kanbatsu.report.pruned import Networks, in_service, pruned
from kanbatsu.report.reasons import percent, size

MANY = 4
"""More tasks than this are counted, not named."""

FIRST = (
    "missing_runs",
    "saves_nothing",
    "task_worse",
    "fails_too_often",
    "loses_to_incumbent",
    "requirement_broken",
)
"""Reasons that are the answer themselves, where they keep an arm from being adopted."""

WORTH_SAYING = 0.05
"""Share by which the time of a run must differ to be named on the first page."""


@dataclass(frozen=True)
class FirstPage:
    """Everything that the first page says, as text."""

    decision: str
    """`adopt`, `extend` or `reject`: the colour of the box."""
    title: str
    """The answer in a few words."""
    answer: str
    """The answer in one sentence."""
    lines: tuple[tuple[str, str], ...]
    """Gains and costs, certainty, next step, and what would change the answer, each named."""
    asked: str
    """What was compared, and by which rule."""
    board: tuple[str, ...]
    """Three points for a board."""
    phrases: tuple[tuple[str, str], ...]
    """Questions that are asked in meetings, each with what can be said."""


def first_page(
    verdict: Mapping[str, Any],
    summary: Mapping[str, Any],
    timing: Mapping[str, Any],
    t: Texts,
    titles: Mapping[str, str] | None = None,
    prices: Prices | None = None,
) -> FirstPage:
    """Say a verdict to who decides.

    Args:
        verdict: `summary.json["verdict"]`.
        summary: `summary.json`, for the arms' networks and tasks.
        timing: `timing.json`, for what runs took.
        t: The texts.
        titles: Names of arms for readers, by their names in the study; may leave some out.
        prices: The study's `[cost]`; nothing is said of money without it.
    """
    shown = {arm["name"]: arm["name"] for arm in summary["arms"]} | dict(titles or {})
    names = {side: shown.get(verdict[side], verdict[side]) for side in ("arm", "control")}
    join = t("list.sentences").join
    tasks = summary["tasks"]
    title, answer = t(f"decision.{verdict['decision']}", **names), _answer(verdict, names, t)
    service = [
        *_worth(verdict, prices or {}, t),
        *_networks(verdict, summary, names, t),
        *_time(verdict, timing, t),
    ]
    score = [*_score(verdict, names, t), *_beside_incumbent(verdict, names, t)]
    failures = _failures(verdict, names, tasks, t)
    step = next_step(verdict, names, tasks, timing, t, prices)
    return FirstPage(
        decision=verdict["decision"],
        title=title,
        answer=answer,
        lines=(
            (t("first.brings"), join([*score, *service])),
            (t("first.sure"), join([_range(verdict, names, t), *_behind(verdict, t), *failures])),
            (t("first.next"), step),
            (t("first.change"), join(what_changes(verdict, names, t))),
        ),
        asked=_asked(verdict, summary, names, t),
        board=(
            t("board.answer", title=title, answer=answer),
            t("board.gain", gain=join(service or score) or t("board.unknown")),
            t("board.risk", sure=join(failures) or _range(verdict, names, t), step=step),
        ),
        phrases=_phrases(verdict, summary, names, t),
    )


def _answer(verdict: Mapping[str, Any], names: Mapping[str, str], t: Texts) -> str:
    rule, effect, decision = verdict["rule"], verdict["effect"], verdict["decision"]
    kinds = [reason["kind"] for reason in verdict["overturned_by"]]
    for kind in (
        "missing_runs",
        "saves_nothing",
        "task_worse",
        "fails_too_often",
        "loses_to_incumbent",
    ):
        if decision != "adopt" and kind in kinds:
            return t(f"answer.{kind}", **names)
    if effect["value"] is None or effect["interval"] is None:
        return t("answer.nothing", **names)
    beats_control = effect["interval"][0] > threshold_of(rule)
    for kind in ("incumbent_not_beaten", "requirement_open"):
        if decision == "extend" and beats_control and kind in kinds:
            return t(f"answer.{kind}", **names)
    margin = size(abs(threshold_of(rule)), effect["measure"], t)
    key = rule["goal"] if threshold_of(rule) else f"{rule['goal']}_at_all"
    difference = beside(effect["value"], effect["measure"], names["control"], t)
    return t(f"answer.{decision}.{key}", **names, margin=margin, difference=difference)


def _score(verdict: Mapping[str, Any], names: Mapping[str, str], t: Texts) -> list[str]:
    """Say how far the scores are apart, if that is known."""
    effect = verdict["effect"]
    if effect["value"] is None:
        return []
    difference = beside(effect["value"], effect["measure"], names["control"], t)
    kind = effect["measure"].partition("_")[0]
    return [t(f"first.score_{kind}", **names, difference=difference)]


def _beside_incumbent(verdict: Mapping[str, Any], names: Mapping[str, str], t: Texts) -> list[str]:
    """Say how the arm stands beside the rule in use today, if there is one."""
    beside_it = verdict.get("incumbent")
    if beside_it is None or beside_it["value"] is None:
        return []
    measure = verdict["effect"]["measure"]
    difference = apart(beside_it["value"], measure, t)
    if beside_it["interval"] is None:
        return [t("incumbent.beside", **names, difference=difference)]
    low, high = (apart(end, measure, t) for end in beside_it["interval"])
    return [t("incumbent.between", **names, difference=difference, low=low, high=high)]


def _worth(verdict: Mapping[str, Any], prices: Prices, t: Texts) -> list[str]:
    """Say what the difference is worth in a year, with its range, if that is known."""
    worth = verdict.get("value_per_year")
    if worth is None:
        return []
    value, low, high = (
        money(amount, prices, t, "+") for amount in (worth["value"], *worth["interval"])
    )
    unit = money(prices["return_unit"], prices, t)
    of = prices.get("per_year_of") or t("prices.episodes")
    count = f"{prices['per_year']:,.0f}"
    return [t("prices.per_year", value=value, low=low, high=high, count=count, of=of, unit=unit)]


def _networks(
    verdict: Mapping[str, Any], summary: Mapping[str, Any], names: Mapping[str, str], t: Texts
) -> list[str]:
    arm, control = _sides(verdict, summary)
    said = [pruned(names["arm"], arm, t), in_service(arm, control, t)]
    return [sentence for sentence in said if sentence]


def _sides(verdict: Mapping[str, Any], summary: Mapping[str, Any]) -> tuple[Networks, Networks]:
    """Return the networks of the arm and of the control."""
    networks = {arm["name"]: arm["networks"] for arm in summary["arms"]}
    return networks.get(verdict["arm"], {}), networks.get(verdict["control"], {})


def _time(verdict: Mapping[str, Any], timing: Mapping[str, Any], t: Texts) -> list[str]:
    """Say what a run of each took, if they differ."""
    arms = timing.get("arms") or {}
    arm, control = (arms.get(verdict[side], {}).get("seconds") for side in ("arm", "control"))
    if not arm or not control or abs(arm / control - 1) < WORTH_SAYING:
        return []
    return [t("first.time", arm_value=lasting(arm, t), control_value=lasting(control, t))]


def _range(verdict: Mapping[str, Any], names: Mapping[str, str], t: Texts) -> str:
    """Say between which values the difference lies, and how often such a range is right."""
    effect = verdict["effect"]
    if effect["interval"] is None:
        return t("sure.nothing")
    low, high = (apart(end, effect["measure"], t) for end in effect["interval"])
    right, of = repetitions(verdict["rule"]["confidence"])
    key = "sure.range" if verdict["comparisons"] == 1 else "sure.range_of_all"
    counts = {"right": right, "of": of, "count": verdict["comparisons"]}
    return t(key, **names, low=low, high=high, **counts)


def _behind(verdict: Mapping[str, Any], t: Texts) -> list[str]:
    said = [t("sure.behind", count=t.count("repetitions", verdict["seeds"]))]
    if count := len(verdict["flags"]):
        said.append(t.number("sure.flags", count, count=count))
    return said


def _failures(
    verdict: Mapping[str, Any], names: Mapping[str, str], tasks: Sequence[str], t: Texts
) -> list[str]:
    """Say which failure rate the arm's runs leave open, and which one the rule allows."""
    counted = (verdict.get("failures") or {}).get("arm")
    if counted is None:
        return []
    where = t("sure.on", task=counted["task"]) if len(tasks) > 1 else ""
    shares = {"failed": counted["failed"], "high": percent(counted["interval"][1])}
    key = "sure.failed" if counted["failed"] else "sure.no_failure"
    said = [t(key, **names, **shares, runs=counted["runs"], where=where)]
    if allowed := verdict["rule"].get("max_failure_rate"):
        said.append(t("sure.may_fail", threshold=percent(allowed)))
    return said


def _phrases(
    verdict: Mapping[str, Any], summary: Mapping[str, Any], names: Mapping[str, str], t: Texts
) -> tuple[tuple[str, str], ...]:
    """Return what is asked in meetings, each with what can be said."""
    effect = verdict["effect"]
    sure = t("phrases.sure.not_yet")
    if effect["interval"] is not None:
        low, high = (apart(end, effect["measure"], t) for end in effect["interval"])
        right, of = repetitions(verdict["rule"]["confidence"])
        sure = t("phrases.sure.say", right=right, of=of, low=low, high=high)
    count = t.count("repetitions", verdict["seeds"])
    did = t("phrases.did.say", **names, tasks=_tasks(summary, t), count=count)
    said = [(t("phrases.did.asked"), did), (t("phrases.sure.asked"), sure)]
    if verdict["decision"] == "extend":
        said.append((t("phrases.why.asked"), t("phrases.why.say")))
    if (operation := in_service(*_sides(verdict, summary), t)) is not None:
        said.append((t("phrases.operation.asked"), operation))
    return tuple(said)


def _tasks(summary: Mapping[str, Any], t: Texts) -> str:
    tasks = summary["tasks"]
    return t.listed(tasks) if len(tasks) <= MANY else t("opening.many_tasks", count=len(tasks))


def _asked(
    verdict: Mapping[str, Any], summary: Mapping[str, Any], names: Mapping[str, str], t: Texts
) -> str:
    measure, threshold = verdict["effect"]["measure"], threshold_of(verdict["rule"])
    key = verdict["rule"]["goal"] if threshold else f"{verdict['rule']['goal']}_at_all"
    return t(
        "asked.sentence",
        **names,
        tasks=_tasks(summary, t),
        count=t.count("repetitions", len(summary["seeds"])),
        rule=t("list.sentences").join(
            [
                t(f"asked.{key}", margin=size(abs(threshold), measure, t)),
                *([t("incumbent.asked")] if verdict["rule"].get("beats") else []),
            ]
        ),
    )
