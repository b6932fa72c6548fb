"""The verdict in words: what it says in both languages, and that it says no more than the data."""

from collections.abc import Callable
from typing import Any

import pytest

from kanbatsu.report.judge import threshold_of
from kanbatsu.report.language import LANGUAGES, texts
from kanbatsu.report.verdict import in_words

MakeVerdict = Callable[..., dict[str, Any]]
EN, JA = texts("en"), texts("ja")


def test_three_lines_for_who_decides(make_verdict: MakeVerdict) -> None:
    gains = {"gains": {"update_milliseconds": {"arm": 2.0, "control": 5.0}}}
    said = in_words(make_verdict(), gains, EN)
    assert said.title == "Adopt sparse-256"
    assert said.lines == (
        (
            "Found",
            "sparse-256 returned 20.0 more than dense-64 on average (95 % interval 17.1 to 22.9). "
            "A run of it returned more in 100 % of all pairs.",
        ),
        (
            "Gained",
            "sparse-256 keeps 95.4 % of the weights of dense-64 (12,400 against 13,000). It needs "
            "50 % of the operations. An update takes 2.00 ms instead of 5.00 ms.",
        ),
        (
            "Certainty",
            "5 seeds per arm and task stand behind this. The interval is corrected for the 2 arms "
            "compared. There is one warning about the inside of a network, below.",
        ),
    )


def test_the_same_in_japanese(make_verdict: MakeVerdict) -> None:
    said = in_words(make_verdict(), {}, JA)
    assert said.title == "sparse-256 を採用する"
    assert said.lines[0][1] == (
        "sparse-256 の累積報酬は dense-64 を平均で 20.0 上回りました（95 % 区間 17.1～22.9）。"
        "総当たり比較の 100 % で上回っています。"
    )
    assert said.lines[2][1].startswith("条件とタスクの組ごとに 5 シードに基づく判定です。")


def test_a_lower_return_is_said_to_be_lower(make_verdict: MakeVerdict) -> None:
    effect = {"measure": "iqm_relative", "value": -0.1, "interval": [-0.3, 0.02], "relative": -0.1}
    said = in_words(make_verdict(decision="reject", effect=effect), {}, EN)
    assert said.title == "Keep dense-64"
    assert said.lines[0][1].startswith(
        "sparse-256 returned 10.0 % less than dense-64 in the interquartile mean "
        "(difference -10.0 %, 95 % interval -30.0 % to 2.0 %)."
    )
    assert said.lines[0][1].endswith("The rule asks for an effect above 500.0 %.")


def test_what_is_the_same_is_no_gain(make_verdict: MakeVerdict) -> None:
    same = {"arm": 7.0, "control": 7.001}
    gains = make_verdict()["gains"] | {"flops": same}
    said = in_words(make_verdict(gains=gains), {"gains": {"update_milliseconds": same}}, EN)
    assert said.lines[1][1] == (
        "sparse-256 keeps 95.4 % of the weights of dense-64 (12,400 against 13,000)."
    )


@pytest.mark.parametrize(
    ("further", "sentence"),
    [
        (6, "About 6 seeds more per arm and task would decide it with a chance of 80 %"),
        (None, "From these runs it cannot be said how many more would decide it."),
    ],
)
def test_an_open_verdict_says_what_would_close_it(
    make_verdict: MakeVerdict, further: int | None, sentence: str
) -> None:
    said = in_words(make_verdict(decision="extend", further_seeds=further), {}, EN)
    assert said.title == "Not decided yet: more seeds are needed"
    assert sentence in said.lines[2][1]


FLAGS = {
    "divergence": ({"network": None, "value": 2, "threshold": 0}, "2 runs met a number"),
    "rank_collapse": ({"value": 0.3, "threshold": 0.5}, "fell to 30 % of what it was at first"),
    "dormancy": ({"value": 0.41, "threshold": 0.25}, "41 % of the hidden units of the critic"),
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
        "0 of 5 runs collapsed: a failure rate of up to 45 % is not excluded, and the rule allows "
        "30 %",
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
        "the failure rate is at least 34 %",
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
    text = " ".join([*(line for _, line in said.lines), *said.found])
    assert "None" not in text
    assert "nan" not in text


def test_a_rule_that_asks_for_no_loss_says_what_is_saved(make_verdict: MakeVerdict) -> None:
    rule = make_verdict()["rule"] | {"goal": "no_worse", "maximal_regression": 0.05}
    effect = {"measure": "mean_relative", "value": 0.0, "interval": [-0.02, 0.02], "relative": 0.0}
    said = in_words(make_verdict(rule=rule, effect=effect), {}, EN)
    assert said.rule[0].startswith(
        "Adopt an arm if the whole 95 % interval of its effect lies above -5.0 % and it saves kept "
        "weights;"
    )
    assert said.rule[-1] == "On no single task may the return be lower by more than 5.0 %."
    assert threshold_of(rule) == -0.05


def test_small_times_keep_two_digits(make_verdict: MakeVerdict) -> None:
    gains = {"gains": {"update_milliseconds": {"arm": 0.0123, "control": 0.0456}}}
    line = in_words(make_verdict(), gains, EN).lines[1][1]
    assert line.endswith("An update takes 0.012 ms instead of 0.046 ms.")


def test_amounts_stand_beside_the_controls(make_verdict: MakeVerdict) -> None:
    said = in_words(make_verdict(), {}, EN)
    assert [(row.name, row.arm, row.control, row.ratio) for row in said.gained] == [
        ("Kept weights", "12,400", "13,000", "0.95"),
        ("FLOPs of a run", "1.2T", "2.4T", "0.50"),
    ]
    assert said.probes[0].name == "Dormant ratio, τ = 0.1, critic"


@pytest.mark.parametrize(
    ("failed", "high", "english", "japanese"),
    [
        (0, 0.4507, "does not exclude a failure rate of up to 45 %", "最大 45 % の失敗率"),
        (1, 0.657, "1 of 5 runs of sparse-256 on t collapsed", "5 回の実行のうち 1 回が崩壊"),
    ],
)
def test_the_first_screen_says_which_failure_rate_is_open(
    make_verdict: MakeVerdict, failed: int, high: float, english: str, japanese: str
) -> None:
    counted = {"failed": failed, "runs": 5, "task": "t", "interval": [0.0, high]}
    rule = make_verdict()["rule"] | {"max_failure_rate": 0.7}
    verdict = make_verdict(failures={"arm": counted, "control": None}, rule=rule)
    for texts_, sentence in ((EN, english), (JA, japanese)):
        said = in_words(verdict, {}, texts_)
        assert sentence in said.lines[2][1]
        assert "70 %" in said.lines[2][1]
        assert any("70 %" in line for line in said.rule)
    assert "0 % and" in in_words(verdict, {}, EN).found[-1]


def test_one_network_that_acts_has_one_time(make_verdict: MakeVerdict) -> None:
    same, less = {"arm": 9.0, "control": 9.0}, {"arm": 1.0, "control": 9.0}
    timing = {"gains": {"act_milliseconds": {"arm": 0.28, "control": 0.16}}}
    gains = make_verdict()["gains"] | {"networks": {"actor": same, "critic": less}}
    said = in_words(make_verdict(gains=gains), timing, EN)
    assert "the network that acts in service is as large as before" in said.lines[1][1]
    assert "Milliseconds per action" not in [row.name for row in said.gained]
    gains = gains | {"networks": {"actor": less, "critic": same}}
    said = in_words(make_verdict(gains=gains), timing, EN)
    assert "Milliseconds per action" in [row.name for row in said.gained]


def test_a_smaller_network_that_may_lose_says_how_much(make_verdict: MakeVerdict) -> None:
    rule = make_verdict()["rule"] | {"goal": "no_worse", "maximal_regression": 40.0}
    effect = {"measure": "mean_difference", "value": -0.46, "interval": [-10.1, 9.14]}
    said = in_words(make_verdict(rule=rule, effect=effect), {}, EN)
    assert (
        "0.46 less than dense-64 on average (difference -0.46, 95 % interval -10.1 to 9.14)"
        in (said.lines[0][1])
    )
    assert said.lines[0][1].endswith("The rule allows a return that is lower by up to 40.0.")
