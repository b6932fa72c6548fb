"""An archive gives back the runs that were put in, and says where it is damaged."""

from pathlib import Path
from typing import Any

import pytest

from kanbatsu.files.archive import read_runs, write_runs
from kanbatsu.files.disk import DamagedFile
from kanbatsu.files.store import StudyFolder


def contents(env_steps: int, state: str = "finished") -> dict[str, Any]:
    return {
        "config": {"env_steps": 10},
        "status": {"state": state, "error": "Größe\u2028", "traceback": None},
        "machine": None,
        "timing": [{"seconds": 0.1 + 0.2}],
        "metrics": [{"kind": "evaluation", "env_steps": env_steps, "mean_return": None}],
    }


def test_runs_come_back_in_the_order_of_their_ids(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    assert read_runs(path) == {}
    runs = {"b": contents(10), "a": contents(5)}
    write_runs(path, runs)
    assert read_runs(path) == runs
    assert list(read_runs(path)) == ["a", "b"]
    assert path.read_bytes().count(b"\n") == 2
    once = path.read_bytes()
    write_runs(path, read_runs(path))
    assert path.read_bytes() == once


@pytest.mark.parametrize("line", ['{"run": "c"', '{"run": "c"}', "[]", "3", ""])
def test_damage_names_the_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "runs.jsonl"
    write_runs(path, {"a": contents(10), "b": contents(10)})
    path.write_text(path.read_text().replace("\n", f"\n{line}\n", 1))
    with pytest.raises(DamagedFile, match=r"runs\.jsonl, line 2, is damaged.*archive"):
        StudyFolder(tmp_path).run_folder("a")


def test_an_archived_run_stands_for_its_folder_until_it_is_trained_again(tmp_path: Path) -> None:
    StudyFolder(tmp_path).write_archive({"whole": contents(10), "half": contents(5, "failed")})
    study = StudyFolder(tmp_path)
    whole, half, other = (study.run_folder(name) for name in ("whole", "half", "other"))
    assert (whole.finished, half.finished, other.finished) == (True, False, False)
    assert half.read_status() == contents(5, "failed")["status"]
    assert (half.metrics(), half.timing()) == (contents(5)["metrics"], contents(5)["timing"])
    assert (half.machine(), half.read_config()) == (None, {"env_steps": 10})
    for run in (whole, half):
        run.write_config({"env_steps": 10})
        run.write_status("running")
    assert study.run_folder("whole").finished
    assert (study.run_folder("half").read_status() or {})["state"] == "running"
    assert study.run_folder("half").metrics() == []
