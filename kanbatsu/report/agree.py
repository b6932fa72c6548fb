"""One number for one thing: what several parts of a page say of the same runs agrees, or says why.

`summary.json` holds bootstrap intervals of all comparisons, and a verdict with intervals that hold
for few seeds. A page with a verdict shows the verdict's everywhere.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from kanbatsu.report import effect as effects
from kanbatsu.report.judge import confidence_of_each, interval
from kanbatsu.report.language import Texts
from kanbatsu.report.plain import apart
from kanbatsu.report.results import StudyResults


def comparisons(study: StudyResults, summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the comparisons of a summary with the intervals that its verdict uses.

    Args:
        study: The runs.
        summary: What `summarise` made of them.

    Returns:
        As they are where there is no verdict, or where it has another control.
    """
    verdict, control = summary.get("verdict"), study.control_arm
    if verdict is None or control is None or verdict["control"] != control.name:
        return list(summary["comparisons"])
    level = confidence_of_each(verdict["rule"]["confidence"], verdict["comparisons"])
    arms = {arm.name: arm for arm in study.arms}
    agreed = []
    for each in summary["comparisons"]:
        sides = arms[each["arm"]], control
        x, y = ([side.finals(task) for task in each["tasks"]] for side in sides)
        if not x:
            agreed.append(dict(each))
            continue
        estimate = effects.improvement(x, y, level)
        agreed.append({**each, "interval": interval(estimate.low, estimate.high), "judged": True})
    return agreed


def mean_against_iqm(verdict: Mapping[str, Any], summary: Mapping[str, Any], t: Texts) -> list[str]:
    """Say where mean and IQM put a verdict's arm on different sides of its control, and why.

    Args:
        verdict: `summary.json["verdict"]`.
        summary: What `summarise` made of the runs.
        t: The texts.

    Returns:
        A sentence for each task on which they do.
    """
    arms = {arm["name"]: arm["tasks"] for arm in summary["arms"]}
    by = verdict["effect"]["measure"].partition("_")[0]
    said = []
    for task in summary["tasks"]:
        arm, control = (arms.get(verdict[side], {}).get(task) for side in ("arm", "control"))
        if not arm or not control or not arm["returns"] or not control["returns"]:
            continue
        means = [statistics.fmean(side["returns"].values()) for side in (arm, control)]
        mean, iqm = means[0] - means[1], arm["iqm"] - control["iqm"]
        if mean * iqm >= 0:
            continue
        values = {"mean": apart(mean, "mean_difference", t), "iqm": apart(iqm, "iqm_difference", t)}
        names = {"arm": verdict["arm"], "control": verdict["control"], "task": task}
        said.append(t("team.mean_against_iqm", **names, **values, by=t(f"team.by_{by}")))
    return said
