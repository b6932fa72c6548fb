"""The rule in use today in verdicts and on pages: beaten, not yet beaten, or better."""

import json
from typing import Any

import pytest

from kanbatsu.report.page import write_report

ARMS: dict[str, dict[str, Any]] = {
    "dense-64": {"width": 64, "sparsity": 0.0, "kept": 9_000, "total": 9_000},
    "sparse-256": {"width": 256, "sparsity": 0.94, "kept": 8_400, "total": 140_000},
    "incumbent": {"width": 1, "sparsity": 0.0, "kept": 1, "total": 1},
}
RULE = {
    "goal": "better",
    "measure": "mean_difference",
    "minimum_effect": 5.0,
    "maximal_regression": None,
    "max_failure_rate": None,
    "saves": "kept",
    "confidence": 0.95,
    "seeds": 5,
    "control": None,
    "arms": [],
}


@pytest.fixture
def verdict_beside(tmp_path, make_study):
    """Return the verdict and both pages of a study whose rule in use returns so much."""

    def verdict(
        level: float, beats: str | None = "incumbent", spread: float = 0.1, dear: float = 1.0
    ) -> Any:
        levels = {"dense-64": 100.0, "sparse-256": 120.0, "incumbent": level}

        def returns(arm: str, task: str, seed: int, share: float) -> float:
            # Some seeds have dearer episodes, for every arm; the rest is each arm's own.
            own = spread * (3 * seed % 5) if arm == "incumbent" else 0.1 * (2 * seed % 5)
            return share * (levels[arm] + dear * seed + own)

        rule = RULE | ({} if beats is None else {"beats": beats})
        make_study(tmp_path, arms=ARMS, decision=rule, returns=returns, probes=False)
        study = json.loads((tmp_path / "study.json").read_text())
        study.pop("checksum", None)
        study["arms"]["incumbent"] |= {
            "agent": "incumbent",
            "config": {"policy": "plant:pid"},
            "train": {},
        }
        (tmp_path / "study.json").write_text(json.dumps(study))
        pages = [write_report(tmp_path, lang).read_text() for lang in ("en", "ja")]
        return json.loads((tmp_path / "summary.json").read_text())["verdict"], *pages

    return verdict


def test_a_rule_that_is_beaten_is_named_with_its_interval(verdict_beside):
    verdict, english, japanese = verdict_beside(90.0)
    assert (verdict["decision"], verdict["arm"]) == ("adopt", "sparse-256")
    assert verdict["rule"]["arms"] == ["sparse-256"]
    assert verdict["comparisons"] == 1
    assert verdict["incumbent"]["policy"] == "plant:pid"
    assert verdict["incumbent"]["value"] == 30.0
    low, high = verdict["incumbent"]["interval"]
    assert 0 < low < 30 < high
    assert "Beside the rule in use today, sparse-256 scores 30.0 higher" in english
    assert "It must also be shown to score higher than the rule in use today." in english
    assert "the rule in use today, plant:pid, evaluated on episodes" in english
    assert "現行ルールと比べた sparse-256 の評価スコアは「30.0 高い」" in japanese
    assert "incumbent" in english.partition("<svg")[2]  # in the figures


def test_episodes_that_are_dear_for_both_say_nothing_against_beating_the_rule(verdict_beside):
    low, high = verdict_beside(118.0, dear=1.0)[0]["incumbent"]["interval"]
    assert 1.5 < low < 2.0 < high < 2.5
    dear = verdict_beside(118.0, dear=40.0)[0]["incumbent"]["interval"]
    assert dear == pytest.approx([low, high])


def test_a_rule_that_may_be_as_good_keeps_the_answer_open(verdict_beside):
    verdict, english, japanese = verdict_beside(110.0, spread=8.0)
    assert verdict["decision"] == "extend"
    (reason,) = (x for x in verdict["overturned_by"] if x["kind"] == "incumbent_not_beaten")
    assert reason["low"] < 0 < reason["high"]
    assert verdict["further_seeds"] is None or verdict["further_seeds"] > 0
    assert "is not shown yet to score higher than the rule in use today" in english
    assert "現行ルールを上回るとはまだ言えません" in japanese


def test_a_rule_that_is_better_rejects(verdict_beside):
    verdict, english, japanese = verdict_beside(150.0)
    assert verdict["decision"] == "reject"
    assert "sparse-256 scores lower than the rule in use today." in english
    assert "現行ルールを下回ります" in japanese


def test_without_beats_it_is_shown_and_decides_nothing(verdict_beside):
    verdict, english, _ = verdict_beside(150.0, beats=None)
    assert verdict["decision"] == "adopt"
    assert verdict["incumbent"]["value"] == -30.0
    assert "Beside the rule in use today, sparse-256 scores 30.0 lower" in english
