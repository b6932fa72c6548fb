"""The verdict in words: four lines for who decides, and what a team wants to see behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kanbatsu.report import words
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

    decision: str
    """`adopt`, `extend` or `reject`: the box's colour."""
    title: str
    lines: tuple[tuple[str, str], ...]
    """Three lines for executives, each with its name."""
    then: str
    """What to do next."""
    rule: tuple[str, ...]
    """The question that was to be decided, in sentences."""
    found: tuple[str, ...]
    """Sentences on the effect and the probability of improvement."""
    gained: tuple[Amount, ...]
    probes: tuple[Amount, ...]
    flags: tuple[str, ...]
    overturned_by: tuple[str, ...]
    matched: str


def in_words(verdict: Mapping[str, Any], timing: Mapping[str, Any], t: Texts) -> VerdictWords:
    """Say a verdict in one language.

    Args:
        verdict: `summary.json["verdict"]`.
        timing: `timing.json`, for what was measured.
        t: The texts.
    """
    names = {"arm": verdict["arm"], "control": verdict["control"]}
    gains = {"kept": verdict["gains"].get("kept"), "flops": verdict["gains"].get("flops")}
    gains |= _measured(timing, names) | (timing.get("gains") or {})
    acts_alike = _same_actor(verdict)
    if acts_alike:
        # Two times of one and the same network differ by chance alone.
        gains.pop("act_milliseconds", None)
    return VerdictWords(
        decision=verdict["decision"],
        title=t(f"decision.{verdict['decision']}", **names),
        lines=(
            (t("summary.found"), _found(verdict, t)),
            (t("summary.gained"), _gained(gains, names, acts_alike, t)),
            (t("summary.next"), _certainty(verdict, t)),
        ),
        then=t(f"then.{verdict['decision']}", **names),
        rule=_rule(verdict, t),
        found=_evidence(verdict, t),
        gained=tuple(
            _amount(named(t, f"gain.{name}"), pair) for name, pair in gains.items() if _known(pair)
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


def _found(verdict: Mapping[str, Any], t: Texts) -> str:
    names = {"arm": verdict["arm"], "control": verdict["control"]}
    effect = verdict["effect"]
    measure, value, interval = effect["measure"], effect["value"], effect["interval"]
    if value is None or interval is None:
        return t("summary.no_interval", **names)
    low, high = interval
    sentence = t(
        "summary.more" if value >= 0 else "summary.less",
        **names,
        how=t(f"summary.{measure.partition('_')[0]}"),
        size=size(abs(value), measure, t),
        value=size(value, measure, t),
        low=size(low, measure, t),
        high=size(high, measure, t),
        confidence=_confidence(verdict["rule"]),
    )
    parts = [sentence]
    share = verdict["probability_of_improvement"]["value"]
    if share is not None:
        parts.append(t("summary.pairs", percent=f"{100 * share:.0f}"))
    rule = verdict["rule"]
    if rule["goal"] == "no_worse":
        allowed = size(rule["maximal_regression"], measure, t)
        parts.append(t("summary.allowed", threshold=allowed))
    elif verdict["decision"] != "adopt":
        parts.append(t("summary.asked", threshold=size(threshold_of(rule), measure, t)))
    return t("list.sentences").join(parts)


def _gained(
    gains: Mapping[str, Pair | None], names: Mapping[str, str], acts_alike: bool, t: Texts
) -> str:
    parts = []
    if (kept := gains["kept"]) and _known(kept):
        counts = {"kept": quantity(kept["arm"]), "of": quantity(kept["control"])}
        key = "summary.keeps_same" if kept["arm"] == kept["control"] else "summary.keeps"
        parts.append(t(key, **names, **counts, share=_share(kept)))
    if (flops := gains["flops"]) and _known(flops) and _differ(flops):
        parts.append(t("summary.computes", share=_share(flops)))
    if (updates := gains.get("update_milliseconds")) and _known(updates) and _differ(updates):
        both = {f"{side}_value": quantity(updates[side]) for side in ("arm", "control")}
        parts.append(t("summary.updates", **both))
    if acts_alike:
        parts.append(t("summary.acts_alike"))
    return t("list.sentences").join(parts) if parts else t("summary.nothing_known")


def _measured(timing: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Pair]:
    """Return the times of both arms, where both have some."""
    arms = timing.get("arms") or {}
    return {
        name: {side: arms.get(names[side], {}).get(name) for side in ("arm", "control")}
        for name in ("update_milliseconds", "act_milliseconds", "seconds", "memory_bytes")
    }


def _same_actor(verdict: Mapping[str, Any]) -> bool:
    """Whether the network that acts keeps as many weights in both arms, and another does not."""
    networks = {
        name: pair["arm"] == pair["control"]
        for name, pair in (verdict["gains"].get("networks") or {}).items()
        if _known(pair)
    }
    return networks.get("actor", False) and not all(networks.values())


def _certainty(verdict: Mapping[str, Any], t: Texts) -> str:
    parts = [t("summary.behind", seeds=t.count("seeds", verdict["seeds"]))]
    if verdict["comparisons"] > 1:
        parts.append(t("summary.corrected", count=verdict["comparisons"]))
    parts += _failures(verdict, t)
    if verdict["decision"] == "extend":
        further = verdict["further_seeds"]
        parts.append(
            t("summary.no_further")
            if further is None
            else t("summary.further", seeds=t.count("seeds", further))
        )
    if verdict["flags"]:
        count = len(verdict["flags"])
        parts.append(t.number("summary.flags", count, count=count))
    return t("list.sentences").join(parts)


def _failures(verdict: Mapping[str, Any], t: Texts) -> list[str]:
    """Say which failure rate the arm's runs leave open, and which one the rule allows."""
    counted = (verdict.get("failures") or {}).get("arm")
    if counted is None:
        return []
    sentence = t(
        "summary.collapsed" if counted["failed"] else "summary.clean",
        arm=verdict["arm"],
        task=counted["task"],
        failed=counted["failed"],
        runs=t.count("runs", counted["runs"]),
        high=percent(counted["interval"][1]),
    )
    allowed = verdict["rule"].get("max_failure_rate")
    return [sentence] + ([t("summary.may_fail", threshold=percent(allowed))] if allowed else [])


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
    if rule.get("maximal_regression") is not None:
        margin = size(rule["maximal_regression"], measure, t)
        sentences.append(t("rule.regression", threshold=margin))
    if rule.get("max_failure_rate") is not None:
        sentences.append(t("rule.failure_rate", threshold=percent(rule["max_failure_rate"])))
    return tuple(sentences)


def _evidence(verdict: Mapping[str, Any], t: Texts) -> tuple[str, ...]:
    effect, improvement = verdict["effect"], verdict["probability_of_improvement"]
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
    return tuple(sentences) or (_found(verdict, t),)


def _confidence(rule: Mapping[str, Any]) -> str:
    return f"{100 * rule['confidence']:.4g}"


def _amount(name: str, pair: Pair) -> Amount:
    ratio = f"{pair['arm'] / pair['control']:.2f}" if pair["control"] else words.DASH
    return Amount(name, quantity(pair["arm"]), quantity(pair["control"]), ratio)


def _share(pair: Pair) -> str:
    return f"{100 * pair['arm'] / pair['control']:.3g}"


def _differ(pair: Pair) -> bool:
    """Whether the arm's and the control's are further apart than a hundredth."""
    return abs(pair["arm"] - pair["control"]) > 0.01 * abs(pair["control"])


def _known(pair: Pair | None) -> bool:
    return bool(pair) and None not in (pair.get("arm"), pair.get("control"))  # type: ignore[union-attr]


def _probe_name(name: str, t: Texts) -> str:
    network, _, probe = name.partition("/")
    title = t(f"probe.{probe}.title") if probe in PROBES else probe
    return t("team.probe_of", probe=title, network=named(t, f"network.{network}"))
