"""What the stages of a plan would take: at least, expected and at most, with nothing trained."""

import pytest

from kanbatsu.forecast.speed import Speed, external_speed
from kanbatsu.poc.parts import forecast_plan, rounds_of, stage_hours, whole
from kanbatsu.poc.plan import Poc, poc_from_dict

TABLE = {
    "question": "?",
    "train": "mine:train",
    "tasks": ["plant"],
    "env_steps": 3600,
    "control": "dense",
    "arm": {"dense": {}},
    "search": {"sparsities": [0.2, 0.5, 0.8], "seeds": 1},
    "budget": {"hours": 1},
}


def speed(seconds: float) -> Speed:
    """Return the speed of an arm that takes so many seconds an env step."""
    lines = [{"env_steps": at, "seconds": seconds * at} for at in (10, 20)]
    return external_speed(lines)


@pytest.fixture
def plan() -> Poc:
    return poc_from_dict(TABLE)


def speeds(plan: Poc) -> dict[tuple[str, str], Speed]:
    names = ["dense", *plan.candidates]
    return {(name, "plant"): speed(1.0 + place) for place, name in enumerate(names)}


def test_the_ends_are_those_of_the_fastest_and_the_slowest_that_go_on(plan):
    hours = stage_hours(plan, plan.study, plan.study, speeds(plan), workers=1)
    assert list(hours) == ["search-1", "search-2", "confirm"]
    # Confirmation: 5 seeds of dense at 1 s and of one candidate at 2 s at least and 4 s at most.
    low, expected, high = hours["confirm"]
    assert low == pytest.approx(5 * (1 + 2) / 1.5)
    assert high == pytest.approx(5 * (1 + 4) * 1.5)
    assert low < expected < high
    # All three candidates take part in the first round, whoever goes on.
    assert hours["search-1"].low == pytest.approx((1 + 2 + 3 + 4) / 1.5)
    assert whole(hours.values()).high == pytest.approx(sum(each.high for each in hours.values()))


def test_a_forecast_adds_up_its_stages(plan, monkeypatch):
    monkeypatch.setattr("kanbatsu.poc.parts.measure", lambda *asked: speeds(plan))
    monkeypatch.setattr("kanbatsu.poc.parts.check_study", lambda study: {})
    found = forecast_plan(plan, 1.0, workers=2, place=None)
    assert found.hours == whole(found.stages.values())
    seeds = [len(each.seeds) for each in rounds_of(plan)]
    assert found.runs == 4 * seeds[0] + (1 + rounds_of(plan)[1].candidates) * seeds[1] + 2 * 5
    assert found.workers == 2
