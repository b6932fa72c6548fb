"""What is wrong with a study as a whole, once its arms are read."""

from __future__ import annotations

from collections.abc import Iterable

from kanbatsu.files.tables import did_you_mean
from kanbatsu.report.measures import SUCCESS
from kanbatsu.run.measures import read_measure
from kanbatsu.run.record import refuse_seed
from kanbatsu.study.cost import cost_problems
from kanbatsu.study.match import match_problems
from kanbatsu.study.plan import Study
from kanbatsu.study.rule import rule_problems


def study_problems(study: Study) -> Iterable[str]:
    """Say what is wrong with a study, apart from each arm's own settings; one line per mistake."""
    if study.control is not None and study.control not in study.arms:
        hint = did_you_mean(study.control, study.arms)
        yield f"control: no arm is called {study.control!r}. {hint}"
    yield from match_problems(study.arms)
    if study.env_steps < 1:
        yield f"env_steps: must be at least 1, not {study.env_steps}"
    for name, values in (("tasks", study.tasks), ("seeds", study.seeds)):
        if not values:
            yield f"{name}: must hold at least one"
        twice = sorted({str(value) for value in values if values.count(value) > 1})
        if twice:
            yield f"{name}: {', '.join(twice)} is there more than once; each may be there once"
    for seed in study.seeds:
        try:
            refuse_seed(seed, "seeds: each")
        except ValueError as error:
            yield str(error)
    for name in study.measures:
        try:
            read_measure(name)
        except ValueError as error:
            yield f"measures: {error}"
    for asked in () if study.decision is None else study.decision.requires:
        if asked.measure not in (*study.measures, SUCCESS):
            hint = did_you_mean(asked.measure, [*study.measures, SUCCESS])
            yield f"decision.requires: {asked.measure!r} is not among measures. {hint}"
        if asked.at_least is None and asked.at_most is None:
            yield f"decision.requires: {asked.measure!r} needs at_least, at_most or both"
    if study.cost is not None:
        yield from cost_problems(study.cost)
    if study.decision is not None:
        yield from rule_problems(
            study.decision, study.control, study.arms, study.tasks, len(study.seeds)
        )
