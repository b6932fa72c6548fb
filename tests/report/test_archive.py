"""An archive says the same as the study that it was made of."""

import json
import shutil

import pytest

from kanbatsu.files.store import RunFolder, StudyFolder
from kanbatsu.report.archive import ArchiveError, archive
from kanbatsu.report.page import write_report


def test_summary_and_times_are_those_of_the_whole_study(make_study, tmp_path):
    folder = make_study(tmp_path / "out")
    for run in (tmp_path / "out" / "runs").iterdir():
        (run / "checkpoint").mkdir()
        (run / "checkpoint" / "arrays").write_bytes(bytes(1000))
        with (run / "metrics.jsonl").open("a") as file:
            file.write('{"kind": "episode", "env_steps": 1000, "return": 3.0}\n')
        RunFolder(run).write_status("finished")
    write_report(folder.path)
    assert archive(folder.path, tmp_path / "kept") == 15
    for name in ("study.json", "summary.json", "timing.json"):
        assert (tmp_path / "kept" / name).read_bytes() == (folder.path / name).read_bytes()
    kept = sorted(path.name for path in (tmp_path / "kept").iterdir())
    assert kept == ["runs.jsonl", "study.json", "summary.json", "timing.json"]
    runs = copy_of(tmp_path).archive
    assert list(runs) == sorted(path.name for path in (tmp_path / "out" / "runs").iterdir())
    run, whole = (it.run_folder("dense-64-dmc-walker-walk-0") for it in (copy_of(tmp_path), folder))
    assert {line["kind"] for line in run.metrics()} == {"networks", "evaluation", "probe"}
    assert run.metrics() == [line for line in whole.metrics() if line["kind"] != "episode"]
    assert run.read_config() == whole.read_config()
    assert (run.read_status(), run.machine()) == (whole.read_status(), whole.machine())
    assert len(run.timing()) == 1


def copy_of(tmp_path):
    return StudyFolder(tmp_path / "kept")


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
    assert "dense-64-dmc-walker-walk-0" not in copy_of(tmp_path).archive
    status = copy_of(tmp_path).run_folder(failed.path.name).read_status()
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
    assert len(copy_of(tmp_path).archive) == 15
    once = (tmp_path / "kept" / "runs.jsonl").read_bytes()
    archive(tmp_path / "a", tmp_path / "kept")
    assert (tmp_path / "kept" / "runs.jsonl").read_bytes() == once


def test_what_is_trained_in_an_archive_counts_and_goes_on_into_the_next(make_study, tmp_path):
    make_study(tmp_path / "out")
    shutil.copytree(tmp_path / "out", tmp_path / "some")
    missing = tmp_path / "some" / "runs" / "dense-64-dmc-walker-walk-0"
    shutil.rmtree(missing)
    archive(tmp_path / "some", tmp_path / "kept")
    run = copy_of(tmp_path).run_folder(missing.name)
    assert not run.finished
    shutil.copytree(tmp_path / "out" / "runs" / missing.name, run.path)
    assert copy_of(tmp_path).run_folder(missing.name).finished
    assert archive(tmp_path / "kept", tmp_path / "next") == 15
    archive(tmp_path / "out", tmp_path / "whole")
    names = ("runs.jsonl", "summary.json", "timing.json")
    whole, collected = (
        [(tmp_path / it / n).read_bytes() for n in names] for it in ("whole", "next")
    )
    assert whole == collected


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
