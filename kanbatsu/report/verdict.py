"""The verdict in words for a team: what stands behind it, and what would overturn it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kanbatsu.report import words
from kanbatsu.report.agree import mean_against_iqm
from kanbatsu.report.cost import Prices, bill, currency, on_gpu
from kanbatsu.report.glossary import PROBES
from kanbatsu.report.judge import threshold_of
from kanbatsu.report.language import Texts
from kanbatsu.report.reasons import (
    beside_the_point,
    flag_text,
    named,
    overturn_text,
    percent,
    quantity,
    size,
)

Pair = Mapping[str, Any]
"""Amounts of something that the arm and the control have, under `arm` and `control`."""

SHOWN = ("dormant_0.1", "srank", "gradient_norm")
"""Probes that stand beside the verdict; the appendix has all."""


@dataclass(frozen=True)
class Amount:
    """One row of a table: what the arm has beside the control, and how the two compare."""

    name: str
    arm: str
    control: str
    ratio: str


@dataclass(frozen=True)
class VerdictWords:
    """Everything that the page says of `summary.json["verdict"]`, as text."""

    rule: tuple[str, ...]
    """The question that was to be decided, in sentences."""
    goes_by: str
    """Sentence on what the rule's effect is a difference of: means or IQMs."""
    found: tuple[str, ...]
    """Sentences on the effect and the probability of improvement."""
    gained: tuple[Amount, ...]
    probes: tuple[Amount, ...]
    flags: tuple[str, ...]
    overturned_by: tuple[str, ...]
    matched: str


def in_words(
    verdict: Mapping[str, Any],
    summary: Mapping[str, Any],
    timing: Mapping[str, Any],
    t: Texts,
    prices: Prices | None = None,
) -> VerdictWords:
    """Say a verdict in one language.

    Args:
        verdict: `summary.json["verdict"]`.
        summary: `summary.json`, for what mean and IQM say.
        timing: `timing.json`, for what was measured.
        t: The texts.
        prices: The study's `[cost]`.
    """
    names = {"arm": verdict["arm"], "control": verdict["control"]}
    gains = {"kept": verdict["gains"].get("kept"), "flops": verdict["gains"].get("flops")}
    gains |= _measured(timing, names) | (timing.get("gains") or {})
    if prices is not None:
        gains |= _charged(gains["seconds"], prices, on_gpu(timing))
    if _same_actor(verdict):
        # Two times of one and the same network differ by chance alone.
        gains.pop("act_milliseconds", None)
    return VerdictWords(
        rule=_rule(verdict, t),
        goes_by=t(f"result.goes_by_{verdict['effect']['measure'].partition('_')[0]}"),
        found=(*_evidence(verdict, t), *mean_against_iqm(verdict, summary, t)),
        gained=tuple(
            _amount(_gain_name(name, prices, t), pair)
            for name, pair in gains.items()
            if _known(pair)
        ),
        probes=tuple(
            _amount(_probe_name(name, t), pair)
            for name, pair in verdict["probes"].items()
            if _known(pair) and name.partition("/")[2] in SHOWN
        ),
        flags=tuple(flag_text(flag, t) for flag in verdict["flags"]),
        overturned_by=tuple(
            overturn_text(reason, verdict, t)
            for reason in verdict["overturned_by"]
            if not beside_the_point(reason)
        ),
        matched=t(f"matched.{verdict['budget']['matched']}", **names),
    )


def _measured(timing: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Pair]:
    """Return the times of both arms, where both have some."""
    arms = timing.get("arms") or {}
    return {
        name: {side: arms.get(names[side], {}).get(name) for side in ("arm", "control")}
        for name in ("update_milliseconds", "act_milliseconds", "seconds", "memory_bytes")
    }


def _charged(seconds: Pair | None, prices: Prices, gpu: bool) -> dict[str, Pair]:
    """Return what a run of each arm costs, and the energy that it takes, by the study's prices."""
    if not _known(seconds):
        return {}
    assert seconds is not None
    bills = {side: bill(prices, seconds[side] / 3600, gpu) for side in ("arm", "control")}
    return {
        "money": {side: each.money for side, each in bills.items()},
        "kilowatt_hours": {side: each.kilowatt_hours for side, each in bills.items()},
    }


def _gain_name(name: str, prices: Prices | None, t: Texts) -> str:
    if name == "money" and prices is not None:
        return t("prices.of_a_run", currency=currency(prices, t))
    return named(t, f"gain.{name}")


def _same_actor(verdict: Mapping[str, Any]) -> bool:
    """Whether the network that acts keeps as many weights in both arms, and another does not."""
    networks = {
        name: pair["arm"] == pair["control"]
        for name, pair in (verdict["gains"].get("networks") or {}).items()
        if _known(pair)
    }
    return networks.get("actor", False) and not all(networks.values())


def _rule(verdict: Mapping[str, Any], t: Texts) -> tuple[str, ...]:
    rule, measure = verdict["rule"], verdict["effect"]["measure"]
    title = t(f"measure.{measure}")
    sentences = [
        t(
            f"rule.{rule['goal']}",
            confidence=_confidence(rule),
            threshold=size(threshold_of(rule), measure, t),
            measure=title[0].lower() + title[1:],
            control=verdict["control"],
            **({"saves": t(f"rule.saves_{rule['saves']}")} if rule["goal"] == "no_worse" else {}),
        ),
        t("rule.seeds", seeds=t.count("seeds", rule["seeds"])),
    ]
    if rule.get("beats"):
        sentences.append(t("rule.beats"))
    if rule.get("maximal_regression") is not None:
        margin = size(rule["maximal_regression"], measure, t)
        sentences.append(t("rule.regression", threshold=margin))
    if rule.get("max_failure_rate") is not None:
        sentences.append(t("rule.failure_rate", threshold=percent(rule["max_failure_rate"])))
    return tuple(sentences)


def _evidence(verdict: Mapping[str, Any], t: Texts) -> tuple[str, ...]:
    effect, improvement = verdict["effect"], verdict["probability_of_improvement"]
    names = {"arm": verdict["arm"], "control": verdict["control"]}
    sentences = []
    if effect["value"] is not None and effect["interval"] is not None:
        low, high = (size(end, effect["measure"], t) for end in effect["interval"])
        sentences.append(
            t(
                "team.effect_of",
                measure=t(f"measure.{effect['measure']}"),
                value=size(effect["value"], effect["measure"], t),
                low=low,
                high=high,
            )
        )
        if effect.get("relative") is not None and not effect["measure"].endswith("relative"):
            share = f"{100 * effect['relative']:+.1f}"
            sentences.append(t("team.relative", percent=share, control=verdict["control"]))
    beside = verdict.get("incumbent")
    if beside is not None and beside["interval"] is not None:
        ends = (size(end, effect["measure"], t) for end in beside["interval"])
        value = size(beside["value"], effect["measure"], t)
        policy, (low, high) = beside["policy"], ends
        sentences.append(t("incumbent.team", policy=policy, value=value, low=low, high=high))
    if improvement["value"] is not None and improvement["interval"] is not None:
        low, high = (words.round_to(end) for end in improvement["interval"])
        value = words.round_to(improvement["value"])
        values = {"value": value, "low": low, "high": high, "control": verdict["control"]}
        sentences.append(t("team.improvement", **values))
    for side, counted in (verdict.get("failures") or {}).items():
        if counted is not None:
            low, high = map(percent, counted["interval"])
            values = {"failed": str(counted["failed"]), "low": low, "high": high}
            values |= {"arm": verdict[side], "task": counted["task"]}
            runs = t.count("runs", counted["runs"])
            confidence = _confidence(verdict["rule"])
            sentences.append(t("team.failures", **values, runs=runs, confidence=confidence))
    if verdict["comparisons"] > 1:
        sentences.append(t("team.corrected", count=verdict["comparisons"]))
    return tuple(sentences) or (t("team.no_interval", **names),)


def _confidence(rule: Mapping[str, Any]) -> str:
    return f"{100 * rule['confidence']:.4g}"


def _amount(name: str, pair: Pair) -> Amount:
    ratio = f"{pair['arm'] / pair['control']:.2f}" if pair["control"] else words.DASH
    return Amount(name, quantity(pair["arm"]), quantity(pair["control"]), ratio)


def _known(pair: Pair | None) -> bool:
    return bool(pair) and None not in (pair.get("arm"), pair.get("control"))  # type: ignore[union-attr]


def _probe_name(name: str, t: Texts) -> str:
    network, _, probe = name.partition("/")
    title = t(f"probe.{probe}.title") if probe in PROBES else probe
    return t("team.probe_of", probe=title, network=named(t, f"network.{network}"))
