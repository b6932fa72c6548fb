"""What a verdict counts and weighs, in words: sizes, warnings, and what would overturn it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kanbatsu.report import words
from kanbatsu.report.language import Texts


def size(value: float | int, measure: str, t: Texts) -> str:
    """Write an effect in the unit of its measure.

    Example:
        >>> from kanbatsu.report.language import texts
        >>> size(0.125, "mean_relative", texts("en")), size(12.5, "mean_difference", texts("en"))
        ('12.5%', '12.5')
    """
    if measure.endswith("relative"):
        return t("measure.percent", value=f"{100 * value:.1f}")
    return words.round_to(value)


def percent(rate: float) -> str:
    """Write a rate in whole percents, without the sign."""
    return f"{100 * rate:.0f}"


def quantity(value: float | int) -> str:
    """Write an amount of anything with about three digits."""
    if 0 < abs(value) < 0.1:
        return f"{value:.2g}"
    return words.compact(value) if abs(value) >= 1e7 else words.round_to(value)


def named(t: Texts, key: str) -> str:
    """Return the text of a name, or the name itself where it has none."""
    return t(key) if t.has(key) else key.partition(".")[2]


def flag_text(flag: Mapping[str, Any], t: Texts) -> str:
    """Write a warning of `kanbatsu.report.flags`."""
    kind, value, threshold = flag["kind"], flag["value"], flag["threshold"]
    if kind == "divergence":
        shown = {"value": t.count("runs", int(value))}
    elif kind == "gradient":
        shown = {"value": f"{value:.2g}", "threshold": f"{max(threshold, 1 / threshold):.3g}"}
    else:
        shown = {"value": f"{100 * value:.0f}", "threshold": f"{100 * threshold:.0f}"}
    if flag["network"]:
        shown["network"] = named(t, f"network.{flag['network']}")
    return t(f"flag.{kind}", arm=flag["arm"], task=flag["task"], **shown)


def beside_the_point(reason: Mapping[str, Any]) -> bool:
    """Whether an interval leaves out the threshold: then it is not what keeps a verdict open."""
    low, high = reason.get("low"), reason.get("high")
    if reason["kind"] != "interval" or low is None or high is None:
        return False
    return not low <= reason["threshold"] <= high


def _known(value: float | None) -> str:
    return words.DASH if value is None else words.round_to(value)


def overturn_text(reason: Mapping[str, Any], verdict: Mapping[str, Any], t: Texts) -> str:
    """Write one of the reasons of a verdict's `overturned_by`."""
    kind, measure = reason["kind"], verdict["effect"]["measure"]
    if kind in ("failure_rate", "fails_too_often"):
        bounds = {name: percent(reason[name]) for name in ("low", "high", "threshold")}
        runs = t.count("runs", reason["runs"])
        return t(f"overturn.{kind}", failed=reason["failed"], runs=runs, **bounds)
    if kind in ("requirement_open", "requirement_broken"):
        ends = {name: _known(reason[name]) for name in ("low", "high", "threshold")}
        return t(f"overturn.{kind}", measure=reason["measure"], task=reason["task"], **ends)
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
        both = {f"{side}_value": quantity(reason[side]) for side in ("arm", "control")}
        return t("overturn.saves_nothing", what=t(f"rule.saves_{reason['what']}"), **both)
    if kind == "seeds_like_control":
        decision = t(f"decision.{reason['decision']}_short")
        if reason["seeds"] is None:
            return t("overturn.seeds_like_control_never", control=control, decision=decision)
        seeds = t.count("seeds", reason["seeds"])
        return t("overturn.seeds_like_control", seeds=seeds, control=control, decision=decision)
    if kind == "seeds_losing":
        decision = t(f"decision.{reason['decision']}_short")
        values = {"loss": size(reason["loss"], measure, t), "control": control}
        if reason["seeds"] is None:
            return t("overturn.seeds_losing_never", **values, decision=decision)
        seeds = t.count("seeds", reason["seeds"])
        return t("overturn.seeds_losing", **values, seeds=seeds, decision=decision)
    if kind == "one_run":
        return t("overturn.one_run", runs=reason["runs"], of=reason["of"])
    if None in (reason.get("low", 0), reason.get("high", 0), reason.get("value", 0)):
        return t("overturn.no_interval")
    return t(f"overturn.{kind}", task=reason.get("task", ""), **sizes)
