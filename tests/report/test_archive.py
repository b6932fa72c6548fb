"""An archive says the same as the study that it was made of."""

import json
import shutil

import pytest

from kanbatsu.report.archive import ArchiveError, archive
from kanbatsu.report.page import write_report


def test_summary_and_times_are_those_of_the_whole_study(make_study, tmp_path):
    folder = make_study(tmp_path / "out")
    for run in (tmp_path / "out" / "runs").iterdir():
        (run / "checkpoint").mkdir()
        (run / "checkpoint" / "arrays").write_bytes(bytes(1000))
        with (run / "metrics.jsonl").open("a") as file:
            file.write('{"kind": "episode", "env_steps": 1000, "return": 3.0}\n')
    write_report(folder.path)
    assert archive(folder.path, tmp_path / "kept") == 15
    for name in ("study.json", "summary.json", "timing.json"):
        assert (tmp_path / "kept" / name).read_bytes() == (folder.path / name).read_bytes()
    kept = tmp_path / "kept" / "runs"
    assert sorted({path.name for path in kept.glob("*/*")}) == [
        "config.json", "machine.json", "metrics.jsonl", "status.json", "timing.jsonl",
    ]  # fmt: skip
    lines = (kept / "dense-64-dmc-walker-walk-0" / "metrics.jsonl").read_text().splitlines()
    assert {json.loads(line)["kind"] for line in lines} == {"networks", "evaluation", "probe"}


def test_what_is_not_finished_stays_out_and_a_failure_loses_its_traceback(make_study, tmp_path):
    task = "dmc/walker-walk"
    stop = {
        ("dense-64", task, 0): ("running", None, 0.5),
        ("dense-64", task, 1): ("failed", "ValueError: no", 0.5),
    }
    folder = make_study(tmp_path / "out", stop=stop)
    failed = folder.run_folder("dense-64-dmc-walker-walk-1")
    failed.write_status("failed", "ValueError: no", "Traceback: a place on this machine")
    assert archive(folder.path, tmp_path / "kept") == 14
    kept = {path.name for path in (tmp_path / "kept" / "runs").iterdir()}
    assert "dense-64-dmc-walker-walk-0" not in kept
    status = json.loads((tmp_path / "kept/runs" / failed.path.name / "status.json").read_text())
    assert status == {"state": "failed", "error": "ValueError: no", "traceback": None}


def test_a_failure_elsewhere_does_not_replace_a_finished_run(make_study, tmp_path):
    run = ("dense-64", "dmc/walker-walk", 1)
    make_study(tmp_path / "good")
    make_study(tmp_path / "bad", stop={run: ("failed", "ValueError: no", 0.5)})
    archive(tmp_path / "good", tmp_path / "kept")
    assert archive(tmp_path / "bad", tmp_path / "kept") == 14
    summary = json.loads((tmp_path / "kept" / "summary.json").read_text())
    assert summary["missing"] == []


def test_runs_of_two_machines_come_together_and_a_repetition_changes_nothing(make_study, tmp_path):
    make_study(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    for seed, machine in enumerate("ab"):
        for run in (tmp_path / machine / "runs").glob(f"*-{seed}"):
            shutil.rmtree(run)
    for machine in "aba":
        archive(tmp_path / machine, tmp_path / "kept")
    assert len(list((tmp_path / "kept" / "runs").iterdir())) == 15
    once = sorted(path.read_bytes() for path in (tmp_path / "kept").rglob("metrics.jsonl"))
    archive(tmp_path / "a", tmp_path / "kept")
    assert once == sorted(path.read_bytes() for path in (tmp_path / "kept").rglob("metrics.jsonl"))


def test_another_study_and_the_study_itself_are_refused(make_study, tmp_path):
    folder = make_study(tmp_path / "out")
    with pytest.raises(ArchiveError, match="copied onto itself"):
        archive(folder.path, folder.path)
    other = make_study(tmp_path / "other")
    other.write_study({**other.read_study(), "hash": "1"})
    with pytest.raises(ArchiveError, match="holds another study"):
        archive(folder.path, other.path)
    with pytest.raises(FileNotFoundError, match="holds no study"):
        archive(tmp_path / "nothing", tmp_path / "kept")
