"""The verdict in words: three lines for who decides, and what a team wants to see behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kanbatsu.report import words
from kanbatsu.report.glossary import PROBES
from kanbatsu.report.judge import threshold_of
from kanbatsu.report.language import Texts

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
    return VerdictWords(
        decision=verdict["decision"],
        title=t(f"decision.{verdict['decision']}", **names),
        lines=(
            (t("summary.found"), _found(verdict, t)),
            (t("summary.gained"), _gained(gains, names, t)),
            (t("summary.next"), _certainty(verdict, t)),
        ),
        rule=_rule(verdict, t),
        found=_evidence(verdict, t),
        gained=tuple(
            _amount(_named(t, f"gain.{name}"), pair) for name, pair in gains.items() if _known(pair)
        ),
        probes=tuple(
            _amount(_probe_name(name, t), pair)
            for name, pair in verdict["probes"].items()
            if _known(pair) and name.partition("/")[2] in SHOWN
        ),
        flags=tuple(_flag(flag, t) for flag in verdict["flags"]),
        overturned_by=tuple(
            _overturn(reason, verdict, t)
            for reason in verdict["overturned_by"]
            if not _beside_the_point(reason)
        ),
        matched=t(f"matched.{verdict['budget']['matched']}", **names),
    )


def _found(verdict: Mapping[str, Any], t: Texts) -> str:
    names = {"arm": verdict["arm"], "control": verdict["control"]}
    effect = verdict["effect"]
    measure, value, interval = effect["measure"], effect["value"], effect["interval"]
    if value is None or interval is None:
        return t("summary.no_interval", **names)
    sign = 1 if value >= 0 else -1
    low, high = sorted(sign * end for end in interval)
    sentence = t(
        "summary.more" if sign > 0 else "summary.less",
        **names,
        how=t(f"summary.{measure.partition('_')[0]}"),
        size=size(sign * value, measure, t),
        low=size(low, measure, t),
        high=size(high, measure, t),
        confidence=_confidence(verdict["rule"]),
    )
    parts = [sentence]
    share = verdict["probability_of_improvement"]["value"]
    if share is not None:
        parts.append(t("summary.pairs", percent=f"{100 * share:.0f}"))
    if verdict["decision"] != "adopt":
        parts.append(t("summary.asked", threshold=size(threshold_of(verdict["rule"]), measure, t)))
    return t("list.sentences").join(parts)


def _gained(gains: Mapping[str, Pair | None], names: Mapping[str, str], t: Texts) -> str:
    parts = []
    if (kept := gains["kept"]) and _known(kept):
        counts = {"kept": _number(kept["arm"]), "of": _number(kept["control"])}
        key = "summary.keeps_same" if kept["arm"] == kept["control"] else "summary.keeps"
        parts.append(t(key, **names, **counts, share=_share(kept)))
    if (flops := gains["flops"]) and _known(flops) and _differ(flops):
        parts.append(t("summary.computes", share=_share(flops)))
    if (updates := gains.get("update_milliseconds")) and _known(updates) and _differ(updates):
        both = {f"{side}_value": _number(updates[side]) for side in ("arm", "control")}
        parts.append(t("summary.updates", **both))
    return t("list.sentences").join(parts) if parts else t("summary.nothing_known")


def _measured(timing: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Pair]:
    """Return the times of both arms, where both have some."""
    arms = timing.get("arms") or {}
    return {
        name: {side: arms.get(names[side], {}).get(name) for side in ("arm", "control")}
        for name in ("update_milliseconds", "act_milliseconds", "seconds", "memory_bytes")
    }


def _certainty(verdict: Mapping[str, Any], t: Texts) -> str:
    parts = [t("summary.behind", seeds=t.count("seeds", verdict["seeds"]))]
    if verdict["comparisons"] > 1:
        parts.append(t("summary.corrected", count=verdict["comparisons"]))
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
            percent = f"{100 * effect['relative']:+.1f}"
            sentences.append(t("team.relative", percent=percent, control=verdict["control"]))
    if improvement["value"] is not None and improvement["interval"] is not None:
        low, high = (words.round_to(end) for end in improvement["interval"])
        value = words.round_to(improvement["value"])
        values = {"value": value, "low": low, "high": high, "control": verdict["control"]}
        sentences.append(t("team.improvement", **values))
    return tuple(sentences) or (_found(verdict, t),)


def _flag(flag: Mapping[str, Any], t: Texts) -> str:
    kind, value, threshold = flag["kind"], flag["value"], flag["threshold"]
    if kind == "divergence":
        shown = {"value": t.count("runs", int(value))}
    elif kind == "gradient":
        shown = {"value": f"{value:.2g}", "threshold": f"{max(threshold, 1 / threshold):.3g}"}
    else:
        shown = {"value": f"{100 * value:.0f}", "threshold": f"{100 * threshold:.0f}"}
    if flag["network"]:
        shown["network"] = _named(t, f"network.{flag['network']}")
    return t(f"flag.{kind}", arm=flag["arm"], task=flag["task"], **shown)


def _beside_the_point(reason: Mapping[str, Any]) -> bool:
    """Whether an interval leaves out the threshold: then it is not what keeps a verdict open."""
    low, high = reason.get("low"), reason.get("high")
    if reason["kind"] != "interval" or low is None or high is None:
        return False
    return not low <= reason["threshold"] <= high


def _overturn(reason: Mapping[str, Any], verdict: Mapping[str, Any], t: Texts) -> str:
    kind, measure = reason["kind"], verdict["effect"]["measure"]
    sizes = {
        name: size(reason[name], measure, t)
        for name in ("low", "high", "threshold", "value")
        if reason.get(name) is not None
    }
    control = verdict["control"]
    if kind == "too_few_seeds":
        seeds, needed = (t.count("seeds", reason[name]) for name in ("seeds", "needed"))
        return t("overturn.too_few_seeds", seeds=seeds, needed=needed)
    if kind == "missing_runs":
        return t("overturn.missing_runs", runs=t.count("runs", reason["runs"]))
    if kind == "saves_nothing":
        both = {f"{side}_value": _number(reason[side]) for side in ("arm", "control")}
        return t("overturn.saves_nothing", what=t(f"rule.saves_{reason['what']}"), **both)
    if kind == "seeds_like_control":
        decision = t(f"decision.{reason['decision']}_short")
        if reason["seeds"] is None:
            return t("overturn.seeds_like_control_never", control=control, decision=decision)
        seeds = t.count("seeds", reason["seeds"])
        return t("overturn.seeds_like_control", seeds=seeds, control=control, decision=decision)
    if kind == "one_run":
        return t("overturn.one_run", runs=reason["runs"], of=reason["of"])
    if None in (reason.get("low", 0), reason.get("high", 0), reason.get("value", 0)):
        return t("overturn.no_interval")
    return t(f"overturn.{kind}", task=reason.get("task", ""), **sizes)


def size(value: float | int, measure: str, t: Texts) -> str:
    """Write an effect in the unit of its measure.

    Example:
        >>> from kanbatsu.report.language import texts
        >>> size(0.125, "mean_relative", texts("en")), size(12.5, "mean_difference", texts("en"))
        ('12.5 %', '12.5')
    """
    if measure.endswith("relative"):
        return t("measure.percent", value=f"{100 * value:.1f}")
    return words.round_to(value)


def _confidence(rule: Mapping[str, Any]) -> str:
    return f"{100 * rule['confidence']:.4g}"


def _amount(name: str, pair: Pair) -> Amount:
    ratio = f"{pair['arm'] / pair['control']:.2f}" if pair["control"] else words.DASH
    return Amount(name, _number(pair["arm"]), _number(pair["control"]), ratio)


def _number(value: float | int) -> str:
    if 0 < abs(value) < 0.1:
        return f"{value:.2g}"
    return words.compact(value) if abs(value) >= 1e7 else words.round_to(value)


def _share(pair: Pair) -> str:
    return f"{100 * pair['arm'] / pair['control']:.3g}"


def _differ(pair: Pair) -> bool:
    """Whether the arm's and the control's are further apart than a hundredth."""
    return abs(pair["arm"] - pair["control"]) > 0.01 * abs(pair["control"])


def _known(pair: Pair | None) -> bool:
    return bool(pair) and None not in (pair.get("arm"), pair.get("control"))  # type: ignore[union-attr]


def _named(t: Texts, key: str) -> str:
    return t(key) if t.has(key) else key.partition(".")[2]


def _probe_name(name: str, t: Texts) -> str:
    network, _, probe = name.partition("/")
    title = t(f"probe.{probe}.title") if probe in PROBES else probe
    return t("team.probe_of", probe=title, network=_named(t, f"network.{network}"))
