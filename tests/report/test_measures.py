"""Measures beside the return: intervals that hold, requirements of a rule, and what pages say."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from kanbatsu.files.tables import RecordError
from kanbatsu.report.decision import verdict
from kanbatsu.report.failures import rate_bounds
from kanbatsu.report.language import texts
from kanbatsu.report.measures import measure_rows, rate_interval, summary_of, value_of
from kanbatsu.report.reasons import overturn_text
from kanbatsu.report.results import StudyResults, read_study
from kanbatsu.study.file import study_from_dict

RULE = {
    "goal": "better",
    "measure": "mean_difference",
    "minimum_effect": 0.0,
    "maximal_regression": None,
    "max_failure_rate": None,
    "saves": "kept",
    "confidence": 0.95,
    "seeds": 5,
    "control": None,
    "arms": ["sparse-256"],
}
TASK = "dmc/walker-walk"


@pytest.fixture
def study(tmp_path, make_study) -> StudyResults:
    """A study whose sparse arm has a service level of 0.96 and no late delivery in 5 x 10."""
    make_study(tmp_path, decision=RULE, probes=False)
    for path in Path(tmp_path, "runs").glob("*/metrics.jsonl"):
        seed = int(path.parent.name[-1])
        levels = [0.95 + 0.005 * seed] * 10
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        lines[-1]["measures"] = {"service": levels, "any:late": [0.0] * 10}
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        status = path.parent / "status.json"
        status.write_text('{"state": "finished", "error": null, "traceback": null}')
    return dataclasses.replace(read_study(tmp_path), measures=("service", "any:late"))


def decided(study: StudyResults, **limits: float | str) -> dict:
    found = verdict(dataclasses.replace(study, decision={**RULE, "requires": [limits]}))
    assert found is not None
    return found


def test_a_rate_over_independent_episodes_has_the_exact_interval():
    rng = np.random.default_rng(0)
    alike = [rng.permutation(np.repeat([0.0, 1.0], [5, 15])) for _ in range(4)]
    low, high = rate_interval(alike, 0.95)
    exact = rate_bounds(60, 80, 0.975)
    assert low < exact[0] < exact[1] < high  # four runs say little of how alike they are
    many = [rng.permutation(np.repeat([0.0, 1.0], [5, 15])) for _ in range(400)]
    assert rate_interval(many, 0.95) == pytest.approx(rate_bounds(6000, 8000, 0.975), abs=1e-3)
    apart = [np.ones(20), np.ones(20), np.ones(20), np.zeros(20)]  # policies, not episodes, differ
    low, high = rate_interval(apart, 0.95)
    assert high - low > 0.6
    assert rate_interval([np.zeros(9)] * 5, 0.95)[1] == pytest.approx(rate_bounds(0, 5, 0.975)[1])


def test_an_interval_of_a_rate_holds_as_often_as_it_says():
    rng, held = np.random.default_rng(1), 0
    for _ in range(400):
        rates = rng.beta(8.0, 2.0, size=8)  # a policy each; 0.8 on average
        low, high = rate_interval([rng.binomial(1, rate, 20).astype(float) for rate in rates], 0.95)
        held += low <= 0.8 <= high
    assert held >= 0.93 * 400


def test_means_have_an_interval_over_runs():
    found = value_of([np.full(10, value) for value in (1.0, 2.0, 3.0)], rate=False)
    assert (found["value"], found["interval"]) == (2.0, [1.0, 3.0])
    assert value_of([np.ones(3)], rate=False)["interval"] is None
    assert value_of([], rate=True) == {"value": None, "interval": None}


def test_a_summary_has_them_and_one_without_is_what_it_was(study):
    found = summary_of(study)["measures"]["sparse-256"][TASK]
    assert found["service"]["value"] == pytest.approx(0.96)
    assert found["any:late"]["value"] == 0.0
    assert summary_of(dataclasses.replace(study, measures=())) == {}
    (first, second) = measure_rows(summary_of(study))
    assert first["name"] == "service"
    assert len(second["values"]) == 3


def test_a_rule_may_require_a_measure(study):
    assert decided(study, measure="service", at_least=0.9)["decision"] == "adopt"
    assert decided(study, measure="any:late", at_most=0.6)["decision"] == "adopt"
    assert decided(study, measure="service", at_least=0.96)["decision"] == "extend"
    late = decided(study, measure="any:late", at_most=0.3)
    assert late["decision"] == "extend"
    (reason,) = (x for x in late["overturned_by"] if x["kind"] == "requirement_open")
    assert reason["high"] == pytest.approx(0.52, abs=0.01)
    assert "any:late on dmc/walker-walk is not shown" in overturn_text(reason, late, texts("en"))
    assert decided(study, measure="service", at_least=0.99)["decision"] == "reject"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"measures": ["median:x"]}, "'median:x' is no measure"),
        ({"requires": [{"measure": "servic", "at_least": 0.9}]}, "Did you mean 'service'"),
        ({"requires": [{"measure": "service"}]}, "needs at_least, at_most or both"),
    ],
)
def test_mistakes_are_named(changes, message):
    decision = {"requires": changes.pop("requires", [])}
    table = {"question": "?", "tasks": ["gym/Pendulum-v1"], "env_steps": 9, "seeds": 5}
    table |= {"control": "a", "arm": {"a": {}, "b": {}}, "decision": decision}
    with pytest.raises(RecordError, match=message):
        study_from_dict(table | {"measures": ["service"]} | changes)
