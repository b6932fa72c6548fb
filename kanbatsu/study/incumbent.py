"""The rule in use today as an arm of a study."""

from __future__ import annotations

import dataclasses

from kanbatsu.agents import AGENTS
from kanbatsu.report.gather import EXTERNAL
from kanbatsu.report.results import INCUMBENT
from kanbatsu.run.incumbent import IncumbentConfig, IncumbentSchedule
from kanbatsu.study.plan import Arm, Study


def with_incumbent(study: Study) -> Study:
    """Return a study with the rule in use today as an arm, evaluated as the control is."""
    if study.incumbent is None:
        return study
    like = study.arms.get(study.control or "") or next(iter(study.arms.values()))
    config = IncumbentConfig(study.incumbent, getattr(AGENTS.get(like.agent), "discrete", False))
    train = IncumbentSchedule()
    if like.agent != EXTERNAL:
        known = {item.name: getattr(like.train, item.name) for item in dataclasses.fields(train)}
        train = IncumbentSchedule(**known)
    arms = {**study.arms, INCUMBENT: Arm(INCUMBENT, config, train)}
    return dataclasses.replace(study, arms=arms)
