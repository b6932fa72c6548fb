"""Events are JSON, whatever numbers they hold."""

import json

from kanbatsu.rollout.events import event


def test_what_is_not_finite_is_null_all_the_way_down():
    made = event("gate", numbers={"low": float("-inf"), "high": 2.0}, list=(float("nan"), 1))
    assert json.loads(json.dumps(made, allow_nan=False)) == made
    assert made["numbers"] == {"low": None, "high": 2.0}
    assert made["list"] == [None, 1]
