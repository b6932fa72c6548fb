"""What is printed at the end of a proof of concept: where the page is, and how it was decided."""

import pytest

from kanbatsu import cli
from kanbatsu.cli import proof
from kanbatsu.files.tables import to_dict
from kanbatsu.report.decision import verdict
from kanbatsu.report.results import ArmResults, RunResults, StudyResults
from kanbatsu.study.rule import DecisionRule

VERDICT = {
    "decision": "adopt",
    "arm": "thin",
    "control": "dense",
    "effect": {"measure": "mean_difference", "value": 3.0, "interval": [1.0, 5.0]},
}


@pytest.mark.parametrize(("lang", "page"), [("en", "report.html"), ("ja", "report.ja.html")])
def test_the_page_that_was_written_is_named(tmp_path, monkeypatch, capsys, lang, page):
    end = {"stage": "confirm", "verdict": VERDICT}
    monkeypatch.setattr("kanbatsu.poc.stages.run_poc", lambda *how: end)
    monkeypatch.setattr("kanbatsu.poc.plan.load_poc", lambda path: None)
    proof.run(proof.RunArguments(file=tmp_path / "poc.toml", out=tmp_path, lang=lang))
    assert f"report: {tmp_path / 'confirm' / page}\n" in capsys.readouterr().out


NOISE = [0.0, 3.0, -2.0, 1.0, -4.0, 2.0]


def judged(gains, failed=()):
    """Return the verdict on an arm with a gain for each task, some of whose runs have failed."""
    rule = to_dict(DecisionRule(measure="mean_relative", maximal_regression=0.05))

    def arm(name):
        runs = tuple(
            RunResults(
                f"{name}_{task}_{seed}",
                name,
                task,
                seed,
                name == "dense" or seed not in failed,
                "",
                None,
                {1: 100.0 + noise + (gain if name == "thin" else 0.0)},
                *({} for _ in range(4)),
                (),
                None,
            )
            for task, gain in gains.items()
            for seed, noise in enumerate(NOISE)
        )
        return ArmResults(name, "sac", {}, {}, "env_steps", runs)

    arms = (arm("dense"), arm("thin"))
    seeds = tuple(range(len(NOISE)))
    return verdict(StudyResults("?", None, "dense", tuple(gains), seeds, 1, "", rule, arms))


@pytest.mark.parametrize(
    ("gains", "failed", "said"),
    [
        ({"a": 20.0}, [0], "runs have no result, and nothing is decided before they are there"),
        ({"a": 20.0}, range(5), "runs have no result, and nothing is decided before"),
        ({"a": 20.0}, range(6), "runs have no result, and nothing is decided before"),
        ({"a": 0.1}, [], "more than 200 seeds would be needed to decide"),
        ({"a": 3.0}, [], "further seeds of each arm would decide with a chance of 80%"),
        ({"a": 40.0, "b": -6.0}, [], "needs no further seeds, but the return may be lower than"),
    ],
)
def test_what_would_decide_is_said_for_every_open_verdict(gains, failed, said):
    found = judged(gains, failed)
    assert found["decision"] == "extend"
    assert said in proof.describe({"verdict": found})


def test_without_an_interval_no_number_of_seeds_is_named():
    found = judged({"a": 3.0})
    nowhere = {
        "effect": found["effect"] | {"interval": None},
        "further_seeds": None,
        "overturned_by": [{"kind": "interval", "low": None, "high": None, "threshold": 0.0}],
    }
    assert "there is no interval, so it cannot" in proof.describe({"verdict": found | nowhere})


def test_a_report_on_a_proof_of_concept_writes_the_page_over_its_stages_too(
    tmp_path, monkeypatch, capsys
):
    written = []
    for name in ("poc.json", "search-1/study.json", "confirm/study.json"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("{}")

    def write_report(folder, lang):
        written.append(folder)
        return folder / "report.html"

    monkeypatch.setattr("kanbatsu.report.page.write_report", write_report)
    assert cli.main(["report", str(tmp_path)]) == 0
    assert written == [tmp_path]  # `write_report` then writes those of the stages
    assert capsys.readouterr().out == f"report: {tmp_path / 'report.html'}\n"
