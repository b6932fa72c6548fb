"""What to do after a verdict, with its price, and what would change the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kanbatsu.report.cost import Bill, Prices, bill, money, on_gpu
from kanbatsu.report.judge import threshold_of
from kanbatsu.report.language import Texts
from kanbatsu.report.plain import apart, lasting
from kanbatsu.report.reasons import size

OBSTACLES = (
    "saves_nothing",
    "task_worse",
    "fails_too_often",
    "loses_to_incumbent",
    "incumbent_not_beaten",
    "requirement_broken",
    "requirement_open",
    "task_regression",
    "failure_rate",
)
"""Reasons that keep an arm from being adopted whatever its score is on average."""


def next_step(
    verdict: Mapping[str, Any],
    names: Mapping[str, str],
    tasks: Sequence[str],
    timing: Mapping[str, Any],
    t: Texts,
    prices: Prices | None = None,
) -> str:
    """Say what to do next, and what that takes.

    Args:
        verdict: `summary.json["verdict"]`.
        names: Names of `arm` and `control` for readers.
        tasks: The study's.
        timing: `timing.json`: further runs are priced by what finished ones took.
        t: The texts.
        prices: The study's `[cost]`; the time alone is named without it.
    """
    decision = verdict["decision"]
    if decision != "extend":
        return t(f"next.{decision}", **names)
    reasons = {reason["kind"]: reason for reason in verdict["overturned_by"]}
    if "missing_runs" in reasons:
        return t("next.missing_runs", count=t.count("repetitions", reasons["missing_runs"]["runs"]))
    if "no_spread" in reasons:
        return t("next.no_spread")
    further = verdict["further_seeds"]
    if further is None:
        return t("next.unknown")
    runs = f"{2 * further * len(tasks):,}"
    values = {"count": t.count("repetitions", further), "runs": runs}
    price = _price(verdict, further * len(tasks), timing, t, prices)
    if "too_few_seeds" in reasons:
        return t("next.too_few_seeds", **values, price=price)
    step = t("next.extend", **values, price=price)
    if prices is None or not prices.get("delay_hour"):
        return step
    delay = t("next.delay", money=money(prices["delay_hour"], prices, t))
    return t("list.sentences").join([step, delay])


def what_changes(verdict: Mapping[str, Any], names: Mapping[str, str], t: Texts) -> list[str]:
    """Say what would change the answer, a sentence each; never none.

    Args:
        verdict: `summary.json["verdict"]`.
        names: Names of `arm` and `control` for readers.
        t: The texts.
    """
    reasons = {reason["kind"]: reason for reason in verdict["overturned_by"]}
    measure, said = verdict["effect"]["measure"], []
    for kind in ("seeds_like_control", "seeds_losing"):
        if (reason := reasons.get(kind)) is None:
            continue
        loss = size(reason["loss"], measure, t) if "loss" in reason else ""
        if reason["seeds"] is None:
            said.append(t(f"change.{kind}_never", **names, loss=loss))
        else:
            more = {"count": reason["seeds"], "loss": loss}
            said.append(t.number(f"change.{kind}", reason["seeds"], **names, **more))
    if (reason := reasons.get("effect_above")) is not None:
        margin = apart(threshold_of(verdict["rule"]), measure, t)
        said.append(t("change.effect_above", **names, margin=margin))
    if verdict["decision"] == "extend" and verdict["effect"]["interval"] is not None:
        leads = verdict["effect"]["value"] > threshold_of(verdict["rule"])
        said.append(t("change.leads_to_yes" if leads else "change.leads_to_no", **names))
    if (reason := reasons.get("one_run")) is not None:
        said.append(t("change.one_run", runs=reason["runs"], of=reason["of"]))
    said += [
        t(
            f"change.{kind}",
            **names,
            task=reasons[kind].get("task", ""),
            measure=reasons[kind].get("measure", ""),
        )
        for kind in OBSTACLES
        if kind in reasons
    ]
    return said or [t("change.more_runs")]


def _price(
    verdict: Mapping[str, Any],
    each: int,
    timing: Mapping[str, Any],
    t: Texts,
    prices: Prices | None,
) -> str:
    """Say what so many further runs of both arms take, as far as runs were timed."""
    arms = timing.get("arms") or {}
    seconds = [arms.get(verdict[side], {}).get("seconds") for side in ("arm", "control")]
    if None in seconds:
        return ""
    took = each * sum(seconds)
    said = t("next.price", time=lasting(took, t))
    taken = Bill(None, None) if prices is None else bill(prices, took / 3600, on_gpu(timing))
    if prices is None or taken.money is None:
        return said
    return said + t("next.money", money=money(taken.money, prices, t))
