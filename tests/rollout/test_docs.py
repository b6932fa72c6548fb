"""The page of rollouts names every setting, and the command line's file can be read."""

import dataclasses
from pathlib import Path

import pytest

from kanbatsu.rollout.config import (
    CanaryRule,
    CandidateSettings,
    DriftSettings,
    GuardSettings,
    RolloutSettings,
    ShadowRule,
)

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "rollout.md").read_text() + (DOCS / "rollout-monitoring.md").read_text()


@pytest.mark.parametrize(
    "config",
    [
        GuardSettings,
        CandidateSettings,
        ShadowRule,
        CanaryRule,
        DriftSettings,
        RolloutSettings,
    ],
)
def test_every_setting_stands_in_the_page_with_its_default(config):
    for item in dataclasses.fields(config):
        rows = [line for line in PAGE.splitlines() if f"`{item.name}`" in line]
        assert rows, item.name
        if isinstance(item.default, int | float) and item.default is not False:
            shown = f"{item.default:,}", str(item.default).lower(), f"{item.default:g}"
            assert any(number in row for row in rows for number in shown), item.name
