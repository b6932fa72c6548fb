"""Studies whose truth is known (benchmarks/planted.py): how often the verdict is wrong."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from kanbatsu.study.rule import DecisionRule

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def planted() -> ModuleType:
    spec = importlib.util.spec_from_file_location("planted", BENCHMARKS / "planted.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_nothing_is_rarely_adopted_and_a_large_effect_is_often(planted):
    rule = DecisionRule()
    assert planted.decisions(planted.normal, [0.0], 5, 40, rule, seed=0)["adopt"] <= 0.1
    found = planted.decisions(planted.normal, [3.0], 8, 20, rule, seed=0)
    assert found["adopt"] >= 0.9
    assert planted.decisions(planted.normal, [-3.0], 8, 20, rule, seed=0)["reject"] >= 0.9


def test_the_winner_of_a_search_must_not_be_judged_on_the_runs_that_chose_it(planted):
    found = planted.by_selection(planted.normal, candidates=6, seeds=5)
    assert found["same"] > 0.05
    assert found["corrected"] < 0.04
    assert found["fresh"] < 0.04


@pytest.mark.slow
@pytest.mark.parametrize("noise", ["normal", "skewed", "failing"])
@pytest.mark.parametrize("seeds", [5, 10])
@pytest.mark.parametrize("effects", [[0.0], [0.0] * 4])
def test_wrong_adoptions_in_two_hundred_studies(planted, noise, seeds, effects):
    found = planted.decisions(
        planted.NOISES[noise], effects, seeds, planted.STUDIES, DecisionRule(), seed=seeds
    )
    assert found["adopt"] <= 0.05


def test_a_bound_on_the_failure_rate_stops_arms_whose_seeds_collapse(planted):
    noises = planted.UNLIKE["one in five seeds of the arm collapses"]
    found = planted.unlike_adoptions(noises, arms=1, seeds=5, max_rate=0.5)
    # Five clean seeds exclude one half, and no interval sees what did not happen.
    assert found["adopt"] > 0.2
    strict = planted.unlike_adoptions(noises, arms=1, seeds=15, max_rate=0.19)
    assert strict["bounded"] <= 0.05


def test_stored_results_hold_what_the_pages_say():
    record = json.loads((BENCHMARKS / "results" / "planted.json").read_text())
    wrong = [row["adopt"] for row in record["verdicts"] if "effect" not in row["truth"]]
    assert all(row["bounded"] <= 0.06 for row in record["unlike"] if "bounded" in row)
    assert len(wrong) == 24
    assert max(wrong) <= 0.05
