"""The verdict in words: what it says in both languages, and that it says no more than the data."""

from collections.abc import Callable
from typing import Any

import pytest

from kanbatsu.report.judge import threshold_of
from kanbatsu.report.language import LANGUAGES, Texts, texts
from kanbatsu.report.verdict import VerdictWords
from kanbatsu.report.verdict import in_words as in_words_of

MakeVerdict = Callable[..., dict[str, Any]]
EN, JA = texts("en"), texts("ja")


def in_words(verdict: dict[str, Any], timing: dict[str, Any], t: Texts) -> VerdictWords:
    """Say a verdict whose summary holds no arms."""
    return in_words_of(verdict, {"arms": [], "tasks": []}, timing, t)


FLAGS = {
    "divergence": ({"network": None, "value": 2, "threshold": 0}, "2 runs met a number"),
    "rank_collapse": ({"value": 0.3, "threshold": 0.5}, "fell to 30% of what it was at first"),
    "dormancy": ({"value": 0.41, "threshold": 0.25}, "41% of the hidden units of the critic"),
    "gradient": ({"value": 0.004, "threshold": 0.01}, "0.004 times what it was at first"),
}


@pytest.mark.parametrize("kind", FLAGS)
def test_every_flag_has_words(make_verdict: MakeVerdict, kind: str) -> None:
    numbers, sentence = FLAGS[kind]
    flag = {"arm": "a", "task": "t", "kind": kind, "network": "critic", **numbers}
    (said,) = in_words(make_verdict(flags=[flag]), {}, EN).flags
    assert said.startswith("a on t: ")
    assert sentence in said
    (said,) = in_words(make_verdict(flags=[flag]), {}, JA).flags
    assert said.startswith("t の a：")


REASONS = [
    ({"kind": "too_few_seeds", "seeds": 3, "needed": 5}, "3 seeds per arm and task are finished"),
    ({"kind": "missing_runs", "runs": 1}, "1 run without a result"),
    (
        {"kind": "saves_nothing", "what": "kept", "arm": 14_000.0, "control": 13_000.0},
        "14,000 kept weights against 13,000",
    ),
    (
        {"kind": "task_worse", "task": "t", "value": -7.0, "threshold": -5.0},
        "On t the return is lower by more than the rule allows: -7.00, allowed -5.00",
    ),
    (
        {"kind": "task_regression", "task": "t", "value": -7.0, "threshold": -5.0},
        "On t the return may be lower",
    ),
    (
        {"kind": "interval", "low": -1.0, "high": 9.0, "threshold": 5.0},
        "-1.00 to 9.00 includes the threshold 5.00",
    ),
    ({"kind": "interval", "low": None, "high": None, "threshold": 5.0}, "There is no interval yet"),
    ({"kind": "effect_above", "value": 1.0, "high": 2.0, "threshold": 5.0}, "now 2.00"),
    ({"kind": "seeds_like_control", "seeds": 1, "decision": "extend"}, "1 seed more that return"),
    ({"kind": "seeds_like_control", "seeds": None, "decision": "extend"}, "Not even 200"),
    (
        {"kind": "seeds_losing", "seeds": 4, "loss": 40.0, "decision": "extend"},
        "4 seeds more that return 40.0 less than dense-64",
    ),
    (
        {"kind": "seeds_losing", "seeds": None, "loss": 40.0, "decision": "extend"},
        "Not even 200 more seeds that return 40.0 less",
    ),
    ({"kind": "no_spread"}, "nothing shows how much is chance"),
    (
        {
            "kind": "failure_rate",
            "failed": 0,
            "runs": 5,
            "low": 0.0,
            "high": 0.4507,
            "threshold": 0.3,
        },
        "0 of 5 runs collapsed: a failure rate of up to 45% is not excluded, and the rule allows "
        "30%",
    ),
    (
        {
            "kind": "fails_too_often",
            "failed": 4,
            "runs": 5,
            "low": 0.34,
            "high": 0.99,
            "threshold": 0.3,
        },
        "the failure rate is at least 34%",
    ),
    ({"kind": "one_run", "runs": 1, "of": 10}, "in 1 of 10 cases"),
]


@pytest.mark.parametrize(("reason", "sentence"), REASONS)
def test_every_reason_has_words(
    make_verdict: MakeVerdict, reason: dict[str, Any], sentence: str
) -> None:
    (said,) = in_words(make_verdict(overturned_by=[reason]), {}, EN).overturned_by
    assert sentence in said
    assert in_words(make_verdict(overturned_by=[reason]), {}, JA).overturned_by[0].endswith("。")


def test_an_interval_that_leaves_out_the_threshold_is_not_what_is_missing(
    make_verdict: MakeVerdict,
) -> None:
    reasons = [
        {"kind": "missing_runs", "runs": 1},
        {"kind": "interval", "low": 6.0, "high": 9.0, "threshold": 5.0},
    ]
    said = in_words(make_verdict(decision="extend", overturned_by=reasons), {}, EN)
    assert len(said.overturned_by) == 1
    assert said.overturned_by[0].startswith("1 run without a result")


@pytest.mark.parametrize("lang", LANGUAGES)
def test_a_verdict_on_nothing_claims_nothing(make_verdict: MakeVerdict, lang: str) -> None:
    unknown = {"value": None, "interval": None}
    nothing = {"arm": None, "control": None}
    said = in_words(
        make_verdict(
            decision="extend",
            effect={"measure": "mean_difference", "relative": None, **unknown},
            probability_of_improvement=unknown,
            gains={"return": None, "kept": nothing, "flops": nothing},
            probes={"critic/srank": nothing},
            flags=[],
            seeds=0,
        ),
        {},
        texts(lang),
    )
    assert said.gained == said.probes == said.flags == ()
    text = " ".join(said.found)
    assert "None" not in text
    assert "nan" not in text


def test_a_rule_that_asks_for_no_loss_says_what_is_saved(make_verdict: MakeVerdict) -> None:
    rule = make_verdict()["rule"] | {"goal": "no_worse", "maximal_regression": 0.05}
    effect = {"measure": "mean_relative", "value": 0.0, "interval": [-0.02, 0.02], "relative": 0.0}
    said = in_words(make_verdict(rule=rule, effect=effect), {}, EN)
    assert said.rule[0].startswith(
        "Adopt an arm if the whole 95% interval of its effect lies above -5.0% and it saves kept "
        "weights;"
    )
    assert said.rule[-1] == "On no single task may the return be lower by more than 5.0%."
    assert threshold_of(rule) == -0.05


def test_amounts_stand_beside_the_controls(make_verdict: MakeVerdict) -> None:
    said = in_words(make_verdict(), {}, EN)
    assert [(row.name, row.arm, row.control, row.ratio) for row in said.gained] == [
        ("Kept weights", "12,400", "13,000", "0.95"),
        ("FLOPs of a run", "1.2T", "2.4T", "0.50"),
    ]
    assert said.probes[0].name == "Dormant ratio, τ = 0.1, critic"


def test_a_rule_may_bound_failures_and_the_team_sees_both_ends(make_verdict: MakeVerdict) -> None:
    counted = {"failed": 0, "runs": 5, "task": "t", "interval": [0.0, 0.4507]}
    rule = make_verdict()["rule"] | {"max_failure_rate": 0.7}
    verdict = make_verdict(failures={"arm": counted, "control": None}, rule=rule, comparisons=1)
    said = in_words(verdict, {}, EN)
    assert any("70%" in line for line in said.rule)
    assert "0% and 45%" in said.found[-1]


def test_one_network_that_acts_has_one_time(make_verdict: MakeVerdict) -> None:
    same, less = {"arm": 9.0, "control": 9.0}, {"arm": 1.0, "control": 9.0}
    timing = {"gains": {"act_milliseconds": {"arm": 0.28, "control": 0.16}}}
    gains = make_verdict()["gains"] | {"networks": {"actor": same, "critic": less}}
    said = in_words(make_verdict(gains=gains), timing, EN)
    assert "Milliseconds per action" not in [row.name for row in said.gained]
    gains = gains | {"networks": {"actor": less, "critic": same}}
    said = in_words(make_verdict(gains=gains), timing, EN)
    assert "Milliseconds per action" in [row.name for row in said.gained]


def test_mean_and_iqm_that_disagree_are_said_to(make_verdict: MakeVerdict) -> None:
    arm = {"returns": {"0": 1.0, "1": 2.0, "2": 3.0, "3": 30.0}, "iqm": 2.5}
    control = {"returns": {"0": 4.0, "1": 4.0, "2": 4.0, "3": 4.0}, "iqm": 4.0}
    sides = {"sparse-256": arm, "dense-64": control}
    arms = [{"name": name, "tasks": {"t": on}} for name, on in sides.items()]
    said = in_words_of(make_verdict(), {"arms": arms, "tasks": ["t"]}, {}, EN)
    assert said.found[-1].startswith(
        "On t the mean puts sparse-256 beside dense-64 5.00 higher, the IQM 1.50 lower:"
    )
    assert said.found[-1].endswith("The verdict goes by the mean.")
