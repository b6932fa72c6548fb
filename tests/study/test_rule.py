"""A decision rule in a study file: what is refused, and how it is said."""

import pytest

from kanbatsu.files.tables import RecordError
from kanbatsu.study.file import study_from_dict
from kanbatsu.study.plan import study_record

TABLE = {
    "question": "?",
    "tasks": ["gym/Pendulum-v1"],
    "env_steps": 100,
    "seeds": 2,
    "control": "dense",
    "arm": {"dense": {}, "sparse": {"critic": {"sparsity": 0.9}}},
}


def test_a_rule_is_kept_with_the_study():
    study = study_from_dict(TABLE | {"decision": {"minimum_effect": 5, "arms": ["sparse"]}})
    assert study.decision.minimum_effect == 5.0
    assert study_record(study, "")["decision"]["arms"] == ["sparse"]
    assert study_record(study_from_dict(TABLE), "")["decision"] is None


@pytest.mark.parametrize(
    ("decision", "message"),
    [
        ({"arms": ["sprase"]}, "decision.arms: no arm is called 'sprase'. Did you mean 'sparse'?"),
        ({"control": "dens"}, "decision.control: no arm is called 'dens'. Did you mean 'dense'?"),
        ({"control": "sparse", "arms": ["sparse"]}, "'sparse' is the control"),
        ({"minimum_effect": -1.0}, 'use goal = "no_worse" and maximal_regression'),
        ({"goal": "no_worse"}, "decision.maximal_regression: must be given"),
        ({"goal": "no_worse", "maximal_regression": -1.0}, "must be at least 0, not -1.0"),
        ({"goal": "no_worse", "maximal_regression": 1.0, "minimum_effect": 2.0}, "remove it"),
        ({"confidence": 95}, "decision.confidence: must lie in [0.5, 1), such as 0.95, not 95.0"),
        ({"seeds": 1}, "decision.seeds: must be at least 3, not 1"),
        ({"goal": "best"}, "decision.goal: must be one of 'better', 'no_worse', not 'best'"),
        ({"minimun_effect": 1.0}, "Did you mean 'minimum_effect'?"),
    ],
)
def test_a_mistake_in_a_rule_is_refused(decision, message):
    with pytest.raises(RecordError) as error:
        study_from_dict(TABLE | {"decision": decision})
    assert message in str(error.value)


def test_a_rule_needs_two_arms_and_one_unit():
    with pytest.raises(RecordError, match="needs a control to compare with"):
        study_from_dict({key: x for key, x in TABLE.items() if key != "control"} | {"decision": {}})
    with pytest.raises(RecordError, match="needs an arm beside the control"):
        study_from_dict(TABLE | {"arm": {"dense": {}}, "decision": {}})
    tasks = {"tasks": ["gym/Pendulum-v1", "dmc/walker-walk"], "decision": {}}
    with pytest.raises(RecordError, match="different units over 2 tasks; use mean_relative"):
        study_from_dict(TABLE | tasks)
    study_from_dict(TABLE | {"tasks": ["dmc/walker-run", "dmc/walker-walk"], "decision": {}})
