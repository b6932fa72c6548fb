"""Prices of a study: optional, refused by name, and no part of a record that names none."""

import pytest

from kanbatsu.files.tables import RecordError
from kanbatsu.study.file import study_from_dict
from kanbatsu.study.plan import study_record

TABLE = {
    "question": "?",
    "tasks": ["gym/Pendulum-v1"],
    "env_steps": 100,
    "seeds": 1,
    "arm": {"dense": {}},
}


def test_prices_stand_in_the_record_and_change_nothing_else() -> None:
    bare = study_record(study_from_dict(TABLE), "")
    assert "cost" not in bare
    cost = {"currency": "JPY", "core_hour": 20}
    priced = study_record(study_from_dict(TABLE | {"cost": cost}), "")
    assert priced.pop("cost")["core_hour"] == 20.0
    assert priced == bare


@pytest.mark.parametrize(
    ("cost", "message"),
    [
        ({"core_hour": 20}, "cost.currency: must be given"),
        ({"currency": "JPY", "core_hour": -1}, "cost.core_hour must be at least 0: got -1"),
        ({"currency": "JPY", "core_hours": 1}, "Did you mean 'core_hour'"),
        ({"currency": "JPY", "return_unit": 3}, "cost.per_year: must be given beside return_unit"),
        ({"currency": "JPY", "kilowatt_hour": 30}, "cost.watts: must be given"),
    ],
)
def test_prices_that_make_no_sense_are_refused_by_name(cost: dict, message: str) -> None:
    with pytest.raises(RecordError, match=message):
        study_from_dict(TABLE | {"cost": cost})
