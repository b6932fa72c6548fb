"""The first page: words for who decides, in both languages, and no more than the numbers hold."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from kanbatsu.report.first import FirstPage, first_page
from kanbatsu.report.language import LANGUAGES, texts

MakeVerdict = Callable[..., dict[str, Any]]
EN, JA = texts("en"), texts("ja")
JARGON = re.compile(
    r"\b(seeds?|arms?|interval|IQM|return|bootstrap)\b|シード|区間|累積報酬|残存重み"
)
THINNED = {
    "actor": {"kept": 4_000, "total": 4_000},
    "critic": {"kept": 8_400, "total": 140_000},
}
WHOLE = {"actor": {"kept": 4_000, "total": 4_000}, "critic": {"kept": 9_000, "total": 9_000}}
SUMMARY = {
    "arms": [
        {"name": "dense-64", "networks": WHOLE},
        {"name": "dense-256", "networks": WHOLE},
        {"name": "sparse-256", "networks": THINNED},
    ],
    "tasks": ["dmc/walker-walk"],
    "seeds": [0, 1, 2, 3, 4],
}
TIMING = {"arms": {"sparse-256": {"seconds": 1_800.0}, "dense-64": {"seconds": 2_400.0}}}


def page_of(verdict: dict[str, Any], lang: str = "en", **changes: Any) -> FirstPage:
    return first_page(verdict, SUMMARY | changes, TIMING, texts(lang))


def whole(page: FirstPage) -> str:
    lines = [sentence for _, sentence in (*page.lines, *page.phrases)]
    return " ".join([page.title, page.answer, page.asked, *lines, *page.board]).replace("\xa0", " ")


def test_an_answer_with_its_gains_certainty_next_step_and_what_would_change_it(
    make_verdict: MakeVerdict,
) -> None:
    page = page_of(make_verdict())
    assert page.title == "Adopt sparse-256"
    assert page.answer == (
        "sparse-256 scores 20.0 higher than dense-64, and the gain is shown to exceed the 5.00 "
        "that was asked for."
    )
    assert [name for name, _ in page.lines] == [
        "Gains and costs",
        "How sure",
        "Next step",
        "What would change our mind",
    ]
    text = whole(page)
    assert (
        "94% of the connections of the network that rates actions in training (critic) were "
        "removed at random before training. The controller in service keeps its size: only "
        "training changes. A training run took 30 minutes instead of 40 minutes." in text
    )
    assert "lies between 17.1 higher and 22.9 higher" in text
    assert "on all 2 candidates hold together in 19 of 20 repetitions" in text
    assert "7 more runs in which sparse-256 does no better than dense-64" in text
    assert "Leaving out a single run changes the answer in 1 of 10 cases." in text
    assert len(page.board) == 3


def test_an_open_answer_names_the_price_of_closing_it(make_verdict: MakeVerdict) -> None:
    reasons = [{"kind": "interval", "low": -4.0, "high": 24.0, "threshold": 5.0}]
    effect = {"measure": "mean_difference", "value": 10.0, "interval": [-4.0, 24.0]}
    verdict = make_verdict(
        decision="extend", further_seeds=11, overturned_by=reasons, effect=effect, comparisons=1
    )
    next_step = dict(page_of(verdict).lines)["Next step"]
    # Eleven of each at 30 and 40 minutes.
    assert next_step.startswith(
        "11 repetitions more of each: 22 runs, about 13 hours of computing on this machine."
    )
    assert next_step in page_of(verdict).board[2]
    japanese = dict(page_of(verdict, "ja").lines)["次のステップ"]
    assert "それぞれ 11 回の試行を追加します（計 22 回、本機での計算時間 約 13 時間）" in japanese
    assert "Why not decide now?" in dict(page_of(verdict).phrases)
    never = make_verdict(decision="extend", further_seeds=None, overturned_by=reasons)
    assert "cannot be said, or more than 200" in dict(page_of(never).lines)["Next step"]


@pytest.mark.parametrize(
    ("failed", "high", "english", "japanese"),
    [
        (0, 0.4507, "do not exclude a failure rate of up to 45%", "最大 45% の失敗率"),
        (1, 0.657, "1 of 5 runs of sparse-256 failed; a failure rate of up to 66%", "1 回が失敗"),
    ],
)
def test_the_failure_rate_that_is_open_stands_in_the_box_and_before_the_board(
    make_verdict: MakeVerdict, failed: int, high: float, english: str, japanese: str
) -> None:
    counted = {"failed": failed, "runs": 5, "task": "t", "interval": [0.0, high]}
    rule = make_verdict()["rule"] | {"max_failure_rate": 0.7}
    verdict = make_verdict(failures={"arm": counted, "control": None}, rule=rule)
    for lang, sentence in (("en", english), ("ja", japanese)):
        page = page_of(verdict, lang)
        for place in (page.lines[1][1], page.board[2]):
            assert sentence in place.replace("\xa0", " ")
            assert "70" in place


OBSTACLES: dict[str, dict[str, Any]] = {
    "missing_runs": {"runs": 2},
    "saves_nothing": {"what": "kept", "arm": 9.0, "control": 9.0},
    "task_worse": {"task": "t", "value": -7.0, "threshold": -5.0},
    "fails_too_often": {"failed": 4, "runs": 5, "low": 0.3, "high": 0.9, "threshold": 0.2},
}


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("goal", ["better", "no_worse"])
@pytest.mark.parametrize("decision", ["adopt", "extend", "reject"])
@pytest.mark.parametrize("margin", [0.0, 0.05])
def test_every_answer_has_words_without_jargon(
    make_verdict: MakeVerdict, lang: str, goal: str, decision: str, margin: float
) -> None:
    rule = make_verdict()["rule"] | {"goal": goal, "minimum_effect": margin}
    rule |= {"maximal_regression": margin}
    effect = {"measure": "iqm_relative", "value": -0.1, "interval": [-0.3, 0.02]}
    verdict = make_verdict(decision=decision, rule=rule, effect=effect, further_seeds=3)
    text = whole(page_of(verdict, lang))
    assert not JARGON.search(text)
    assert "sparse-256" in text
    assert texts(lang)("plain.lower", size="10.0 %").partition(" ")[0] in text
    for kind, numbers in OBSTACLES.items():
        if decision != "adopt":
            reasons = [{"kind": kind, **numbers}]
            page = page_of(verdict | {"overturned_by": reasons}, lang)
            assert page.answer == texts(lang)(
                f"answer.{kind}", arm="sparse-256", control="dense-64"
            )


@pytest.mark.parametrize("lang", LANGUAGES)
def test_a_verdict_on_nothing_claims_nothing(make_verdict: MakeVerdict, lang: str) -> None:
    effect = {"measure": "mean_difference", "value": None, "interval": None, "relative": None}
    reasons = [{"kind": "too_few_seeds", "seeds": 0, "needed": 5}]
    changes = {"effect": effect, "overturned_by": reasons, "further_seeds": 5, "seeds": 0}
    bare = [{**arm, "networks": {}} for arm in SUMMARY["arms"]]
    text = whole(page_of(make_verdict(decision="extend", **changes), lang, arms=bare))
    assert not re.search(r"\b(nan|None|inf)\b", text)


def test_a_controller_that_shrinks_is_said_to(make_verdict: MakeVerdict) -> None:
    thin = {"critic": {"kept": 900, "total": 9_000}}
    arms = [
        {"name": "dense-64", "networks": {"critic": {"kept": 9_000, "total": 9_000}}},
        {"name": "sparse-256", "networks": thin},
    ]
    text = whole(page_of(make_verdict(), arms=arms))
    assert "90% of the connections of the network were removed" in text
    assert "The controller in service keeps 10% of the connections." in text


def test_readers_may_have_other_names_for_arms(make_verdict: MakeVerdict) -> None:
    names = {"sparse-256": "軽量版", "dense-64": "現行版"}
    page = first_page(make_verdict(), SUMMARY, TIMING, JA, names)
    assert page.title == "軽量版 を採用する"
    assert page.answer.startswith("軽量版 の評価スコアは 現行版 より 20.0 高くなり、")
