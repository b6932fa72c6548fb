"""The store: valid JSON whatever happens, and no line lost or doubled by a kill."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from kanbatsu.files import disk
from kanbatsu.files.store import RunFolder, StudyFolder


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return StudyFolder(tmp_path).run_folder("sac-walker-0")


def evaluation(env_steps: int) -> dict:
    return {"kind": "evaluation", "env_steps": env_steps, "mean_return": 1.5}


def test_run_files_come_back_as_written(run: RunFolder) -> None:
    run.write_config({"task": "dmc/walker-walk", "seed": 3, "env_steps": 5})
    run.write_status("failed", "NaN at step 7", "Traceback ...")
    run.write_machine({"cores": 2})
    run.append_timing({"env_steps": 10, "seconds": 0.5})
    assert run.read_config() == {"task": "dmc/walker-walk", "seed": 3, "env_steps": 5}
    assert run.read_status() == {
        "state": "failed",
        "error": "NaN at step 7",
        "traceback": "Traceback ...",
    }
    assert run.machine() == {"cores": 2}
    assert run.timing() == [{"env_steps": 10, "seconds": 0.5}]


def test_an_empty_run_reads_as_nothing(run: RunFolder) -> None:
    assert run.metrics() == []
    assert run.timing() == []
    assert run.read_status() is None
    assert run.machine() is None
    assert run.sizes() == {"metrics.jsonl": 0, "timing.jsonl": 0}
    assert not run.finished


def test_numbers_that_are_not_finite_are_null_on_disk(run: RunFolder) -> None:
    run.append({"kind": "update", "metrics": {"a": math.nan, "b": [math.inf, np.float32(2)]}})
    line = (run.path / "metrics.jsonl").read_text()
    assert line == '{"kind": "update", "metrics": {"a": null, "b": [null, 2.0]}}\n'


def test_every_append_is_readable_at_once(run: RunFolder) -> None:
    for env_steps in range(3):
        run.append(evaluation(env_steps))
        assert run.metrics()[-1]["env_steps"] == env_steps


@pytest.mark.parametrize("torn", [b'{"kind": "eval', b"{", b"x" * 10_000])
def test_a_torn_last_line_is_ignored_and_then_removed(run: RunFolder, torn: bytes) -> None:
    run.append(evaluation(1))
    whole = run.sizes()["metrics.jsonl"]
    with (run.path / "metrics.jsonl").open("ab") as file:
        file.write(torn)
    assert [record["env_steps"] for record in run.metrics()] == [1]
    assert run.sizes()["metrics.jsonl"] == whole
    run.append(evaluation(2))
    assert [record["env_steps"] for record in run.metrics()] == [1, 2]
    assert (run.path / "metrics.jsonl").stat().st_size == 2 * whole


def test_a_file_that_is_only_a_torn_line_starts_afresh(run: RunFolder) -> None:
    run.path.mkdir(parents=True)
    (run.path / "metrics.jsonl").write_bytes(b'{"kind"')
    assert run.metrics() == []
    run.append(evaluation(1))
    assert len(run.metrics()) == 1


def test_damage_inside_a_file_names_the_line(run: RunFolder) -> None:
    run.append(evaluation(1))
    with (run.path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"kind"\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 2, is damaged.*Delete"):
        run.metrics()


def test_truncate_forgets_exactly_what_came_after(run: RunFolder) -> None:
    run.append(evaluation(1))
    run.append_timing({"seconds": 1.0})
    sizes = run.sizes()
    run.append(evaluation(2))
    run.append_timing({"seconds": 2.0})
    run.truncate(sizes)
    assert run.metrics() == [evaluation(1)]
    assert run.timing() == [{"seconds": 1.0}]
    run.append(evaluation(3))
    assert [record["env_steps"] for record in run.metrics()] == [1, 3]


def test_truncate_refuses_to_lengthen(run: RunFolder) -> None:
    run.append(evaluation(1))
    with pytest.raises(ValueError, match=r"lines were lost.*earlier checkpoint"):
        run.truncate({"metrics.jsonl": 10_000})


def test_finished_is_computed_from_the_last_evaluation(run: RunFolder) -> None:
    run.write_config({"env_steps": 100})
    run.write_status("finished")
    assert not run.finished
    run.append(evaluation(50))
    run.append({"kind": "update", "env_steps": 100, "metrics": {}})
    run.write_status("finished")
    assert not run.finished
    run.append(evaluation(100))
    run.write_status("running")
    assert run.finished


def test_write_json_is_atomic_and_equal_for_equal_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json"
    disk.write_json(path, {"b": 1, "a": 2})
    first = path.read_bytes()
    disk.write_json(path, {"a": 2, "b": 1})
    assert path.read_bytes() == first
    assert first.endswith(b"}\n")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        disk.write_json(path, {"a": 3})
    assert path.read_bytes() == first
    assert list(tmp_path.iterdir()) == [path]


def test_write_json_refuses_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        disk.write_json(tmp_path / "a.json", {"a": math.nan})
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_json_file_says_which(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    path.write_text("{")
    with pytest.raises(ValueError, match=r"status\.json is not valid JSON"):
        disk.read_json(path)


def test_study_files(tmp_path: Path) -> None:
    study = StudyFolder(tmp_path / "out")
    assert not study.holds_study
    with pytest.raises(FileNotFoundError, match=r"holds no study.*kanbatsu study"):
        study.read_study()
    record = {"question": "Größer?", "tasks": ["a"], "seeds": [0], "env_steps": 5, "arms": {}}
    study.write_study(record)
    assert study.holds_study
    assert study.read_study() == record
    study.write_report("<html>")
    study.write_summary({"arms": []})
    study.write_timing({"runs": {}})
    names = sorted(path.name for path in study.path.iterdir())
    assert names == ["report.html", "study.json", "summary.json", "timing.json"]
    assert json.loads((study.path / "summary.json").read_text()) == {"arms": []}


@pytest.mark.parametrize("run_id", ["../elsewhere", "a/b", "..", "", "/etc"])
def test_a_run_id_cannot_leave_the_study(tmp_path: Path, run_id: str) -> None:
    with pytest.raises(ValueError, match="name of one folder"):
        StudyFolder(tmp_path).run_folder(run_id)
