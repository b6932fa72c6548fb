"""Results in Python: records hold what was planted, and a notebook shows the verdict."""

import json
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import kanbatsu.report
from kanbatsu.report import Records, read

RULE = {
    "goal": "better",
    "measure": "mean_difference",
    "minimum_effect": 1.0,
    "maximal_regression": None,
    "max_failure_rate": None,
    "saves": "kept",
    "confidence": 0.95,
    "seeds": 5,
    "control": None,
    "arms": [],
    "beats": None,
    "requires": None,
}


ARMS = {"dense-64": 9_000, "dense-256": 140_000, "sparse-256": 8_400}
"""Weights that the critics of the planted study keep."""
ACTOR = 4_000


def planted_return(arm, seed):
    return 100.0 + 10 * list(ARMS).index(arm) + seed


@pytest.fixture
def decided(make_study, tmp_path):
    make_study(tmp_path, decision=RULE)
    return read(tmp_path)


def text_of(html: str) -> str:
    """Return what a browser shows, and refuse tags that do not close."""
    shown, opened = [], []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attrs):
            if tag != "br":
                opened.append(tag)

        def handle_endtag(self, tag):
            assert opened.pop() == tag

        def handle_data(self, data):
            shown.append(data)

    Reader().feed(html)
    assert opened == []
    return " ".join(shown)


def test_arms_have_the_planted_means_and_weights(decided):
    rows = decided.arms()
    assert [row["arm"] for row in rows] == list(ARMS)
    for row in rows:
        assert row["mean"] == pytest.approx(planted_return(row["arm"], 2))
        assert row["kept"] == ARMS[row["arm"]] + ACTOR
        assert row["low"] <= row["iqm"] <= row["high"]


def test_runs_and_returns_are_every_run_and_every_evaluation(decided):
    runs, returns = decided.runs(), decided.returns()
    assert len(runs) == 15
    assert {row["state"] for row in runs} == {"finished"}
    assert len(returns) == 15 * 11
    last = {(row["arm"], row["seed"]): row["return"] for row in returns if row["env_steps"] == 1000}
    assert last == {(row["arm"], row["seed"]): row["final_return"] for row in runs}


def test_a_study_with_a_rule_shows_its_verdict(decided):
    assert decided.verdict.decision == "adopt"
    for shown in (repr(decided), text_of(decided._repr_html_())):
        assert "Adopt sparse-256" in shown
        assert "15 of 15 runs" in shown
        assert "8,400" not in shown  # the arm's weights are those of both networks
        assert "12,400" in shown


def test_a_study_without_a_rule_says_its_comparisons_and_what_is_missing(make_study, tmp_path):
    make_study(tmp_path, stop={("sparse-256", "dmc/walker-walk", 4): ("failed", "boom", 0.5)})
    results = read(tmp_path)
    assert results.verdict is None
    assert "14 of 15 runs" in repr(results)
    assert "dense-256 did better than dense-64" in text_of(results._repr_html_())
    failed = [row for row in results.runs() if row["state"] == "failed"]
    assert [(row["arm"], row["seed"], row["final_return"]) for row in failed] == [
        ("sparse-256", 4, None)
    ]


def test_japanese_results_are_japanese(decided):
    shown = text_of(kanbatsu.report.Results(decided.study, "ja")._repr_html_())
    assert "sparse-256 を採用する" in shown
    assert "全 15 回の実行のうち、15 回で" in shown


def test_names_of_a_stranger_control_nothing(make_study, tmp_path):
    shape = {"width": 8, "sparsity": 0.0, "kept": 10, "total": 10}
    arms = {"<b>dense": shape, "a\u202eb": shape}
    make_study(tmp_path, arms=arms, control="<b>dense", seeds=(0,))
    shown = read(tmp_path)._repr_html_()
    assert "&lt;b&gt;dense" in shown
    assert "<b>" not in shown
    assert "\u202e" not in shown + repr(read(tmp_path))


def test_a_probe_is_found_by_name_and_a_near_name_is_offered(decided):
    name = next(name for name in decided.probes if name.count("/") == 1)
    assert set(decided.probe(name)[0]) == {"arm", "task", "seed", "env_steps", name}
    with pytest.raises(KeyError, match=name):
        decided.probe(name + "x")
    with pytest.raises(KeyError, match="returns"):
        decided.figure("return")


@pytest.mark.parametrize("what", ["returns", "finals", "critic/dormant_0.1"])
def test_a_figure_has_a_panel_per_task_and_shows_itself(decided, what):
    figure = decided.figure(what)
    assert [axes.get_title() for axes in figure.axes] == ["dmc/walker-walk"]
    drawn = figure._repr_svg_()
    assert drawn.lstrip().startswith("<?xml")
    for arm in ARMS:
        assert arm in drawn
    assert drawn == decided.figure(what)._repr_svg_()


def test_curves_of_a_figure_are_the_mean_over_seeds(decided):
    (axes,) = decided.figure().axes
    ends = sorted(line.get_ydata()[-1] for line in axes.lines)
    assert ends == pytest.approx([planted_return(arm, 2) for arm in ARMS])


def test_an_archive_and_a_stage_of_a_proof_of_concept_are_read(make_study, tmp_path):
    (tmp_path / "poc.json").write_text(json.dumps({"question": "?"}))
    make_study(tmp_path / "search-1", seeds=(0, 1))
    assert read(tmp_path).study.seeds == (0, 1)
    make_study(tmp_path / "confirm", seeds=(5, 6, 7))
    assert read(tmp_path).study.seeds == (5, 6, 7)
    stored = read(Path(__file__).parents[2] / "evidence" / "kept-weights-early")
    assert [row["kept"] for row in stored.arms()] == [465_024, 464_768]


def test_records_are_a_sequence_and_become_a_data_frame(monkeypatch):
    rows = [{"n": index, "half": index / 2, "name": f"n{index}"} for index in range(30)]
    records = Records(rows)
    assert list(records) == rows
    assert list(records[2:4]) == rows[2:4]
    assert records.frame().half.sum() == sum(row["half"] for row in rows)
    assert repr(records).splitlines()[-1] == "... 30 rows in all"
    assert text_of(records._repr_html_()).split()[:3] == ["n", "half", "name"]
    assert repr(Records([])) == "no rows"
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ModuleNotFoundError, match="pip install pandas"):
        records.frame()
