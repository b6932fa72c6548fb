"""Episodes are drawn by chance, recorded before they begin, and judged after each."""

import json

import numpy as np
import pytest

from kanbatsu.files.disk import DamagedFile
from kanbatsu.rollout.canary import Canary, arm_of
from kanbatsu.rollout.config import CanaryRule, RolloutError

RULE = CanaryRule(0.0, 100.0, worse_by=10.0, share=0.5, episodes=20, more_violations=0.2)


def run(canary, episodes, mean, spread=5.0, violating=0.0, seed=0):
    """Run episodes of both arms until the candidate is stopped; return the last gate."""
    generator = np.random.default_rng(seed)
    for _ in range(episodes):
        arm = canary.begin()
        total = generator.normal(mean[arm], spread)
        violations = int(generator.random() < violating * (arm == "candidate"))
        gate = canary.end(total, violations, steps=10)
        if gate.harm:
            break
    return gate


def test_a_candidate_that_is_as_good_may_go_on(tmp_path):
    gate = run(Canary(tmp_path / "c", RULE), 300, {"incumbent": 50.0, "candidate": 51.0})
    assert gate.passed
    assert gate.numbers["return_difference_low"] > -10.0
    assert gate.numbers["candidate_episodes"] + gate.numbers["incumbent_episodes"] == 300


def test_a_candidate_that_is_worse_is_stopped(tmp_path):
    gate = run(Canary(tmp_path / "c", RULE), 300, {"incumbent": 50.0, "candidate": 35.0})
    assert "returns less" in gate.harm
    assert not gate.passed
    assert gate.numbers["candidate_episodes"] < 60


def test_a_candidate_that_violates_is_stopped_whatever_it_returns(tmp_path):
    means = {"incumbent": 50.0, "candidate": 60.0}
    gate = run(Canary(tmp_path / "c", RULE), 400, means, violating=0.4)
    assert "violates" in gate.harm


def test_too_few_episodes_say_what_is_missing(tmp_path):
    gate = run(Canary(tmp_path / "c", RULE), 3, {"incumbent": 50.0, "candidate": 50.0})
    names = [sentence.partition(":")[0] for sentence in gate.missing]
    assert names == ["candidate_episodes", "return_difference_low", "violation_difference_high"]


def test_what_is_on_file_is_where_it_goes_on(tmp_path):
    means = {"incumbent": 50.0, "candidate": 48.0}
    before = run(Canary(tmp_path / "c", RULE), 60, means)
    again = Canary(tmp_path / "c", RULE)
    assert again.gate() == before
    lines = [json.loads(line) for line in (tmp_path / "c").read_text().splitlines()]
    arms = [line["arm"] for line in lines if "arm" in line]
    assert arms == [arm_of(number, RULE) for number in range(60)]
    assert again.number == 60


def test_an_episode_in_which_the_process_died_counts_as_the_worst(tmp_path):
    canary = Canary(tmp_path / "c", RULE)
    arm = canary.begin()
    with (tmp_path / "c").open("a") as file:
        file.write('{"number": 0, "ret')  # killed in the middle of a line
    again = Canary(tmp_path / "c", RULE)
    assert again.unfinished == 1
    assert again.gate().numbers[f"{arm}_violated"] == 1
    assert again.gate().numbers[f"{arm}_mean_return"] == 0.0
    again.begin()
    again.end(50.0, 0, 10)
    assert Canary(tmp_path / "c", RULE).gate() == again.gate()


def test_a_return_that_is_not_a_number_counts_as_the_lowest(tmp_path):
    canary = Canary(tmp_path / "c", RULE)
    arm = canary.begin()
    gate = canary.end(float("nan"), 0, 10)
    assert gate.numbers[f"{arm}_mean_return"] == 0.0
    assert Canary(tmp_path / "c", RULE).gate() == gate


@pytest.mark.parametrize(
    "text",
    ["[]\n", '{"number": 0}\n', '{"number": 0, "return": 1.0, "violations": 0, "steps": 1}\n'],
)
def test_a_damaged_line_is_named(tmp_path, text):
    (tmp_path / "c").write_text(text)
    with pytest.raises(DamagedFile, match="line 1, is damaged"):
        Canary(tmp_path / "c", RULE)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"return_low": 200.0}, "return_low"),
        ({"share": 1.0}, "share"),
        ({"worse_by": 0.0}, "worse_by"),
        ({"more_violations": 0.0}, "more_violations"),
    ],
)
def test_a_rule_that_cannot_be_is_refused(change, named):
    most = {"return_low": 0.0, "return_high": 100.0, "worse_by": 10.0}
    with pytest.raises(RolloutError, match=named):
        CanaryRule(**most | change)
