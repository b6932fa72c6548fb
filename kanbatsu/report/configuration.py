"""The settings of every arm, as the page's table shows them."""

from __future__ import annotations

from typing import Any

from kanbatsu.report.language import Texts, flatten
from kanbatsu.report.results import ArmResults, StudyResults


def configuration(study: StudyResults, t: Texts) -> list[dict[str, Any]]:
    """Return one row per setting: its value in each arm, and whether it differs from control's."""
    flat = {
        arm.name: dict(
            flatten({"agent": arm.agent, **arm.config, "train": arm.train, **_remedies(arm)})
        )
        for arm in study.arms
    }
    reference = next(iter(flat.values()), {})
    names = sorted({name for settings in flat.values() for name in settings})
    return [
        {
            "name": name,
            "values": [
                (
                    _setting(settings.get(name), t),
                    settings.get(name) != reference.get(name),
                )
                for settings in flat.values()
            ],
        }
        for name in names
    ]


def _remedies(arm: ArmResults) -> dict[str, Any]:
    """Return the settings of an arm's remedies by their kinds."""
    return {"remedy": {remedy["kind"]: remedy for remedy in arm.remedy}} if arm.remedy else {}


def _setting(value: Any, t: Texts) -> str:
    if value is None:
        return t("configuration.not_set")
    if isinstance(value, bool):
        return t("configuration.yes" if value else "configuration.no")
    return f"{value:,}" if isinstance(value, int) else str(value)
