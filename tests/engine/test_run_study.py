"""The engine: whatever happens to one run, the others go on and nothing is lost."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from kanbatsu.engine import supervise
from kanbatsu.engine.place import PlaceConfig
from kanbatsu.engine.progress import LineDisplay
from kanbatsu.engine.run_study import run_study
from kanbatsu.engine.worker import shares
from kanbatsu.files.lock import StudyError, lock
from kanbatsu.files.store import RunFolder, StudyFolder
from kanbatsu.machine import usable_cores
from kanbatsu.report.archive import archive
from kanbatsu.study.plan import Study

TWO = PlaceConfig(workers=2)


class Paper(LineDisplay):
    """Keeps what was said."""

    def __init__(self) -> None:
        self.file = io.StringIO()
        super().__init__(Console(file=self.file, width=200))

    @property
    def lines(self) -> list[str]:
        return self.file.getvalue().splitlines()


def folders(study: Study, out: Path) -> dict[str, RunFolder]:
    return {run.task: StudyFolder(out).run_folder(run.run_id) for run in study.runs()}


def contents(out: Path) -> dict[Path, tuple[bytes, int]]:
    files = [path for path in (out / "runs").rglob("*") if path.is_file()]
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def test_failures_are_stored_and_the_others_go_on(
    tasks: Path, make_tiny_study: Callable[..., Study]
) -> None:
    names = ("tricky:killed", "tricky:good", "tricky:nan", "tricky:fragile")
    study, out, paper = make_tiny_study(names), tasks / "out", Paper()
    config = replace(TWO, retries=1)
    assert run_study(study, out, config, "kanbatsu study x", paper) is False
    runs = folders(study, out)
    status = {name: run.read_status() or {} for name, run in runs.items()}

    assert {name: status[name]["state"] for name in names} == {
        "tricky:killed": "failed",
        "tricky:good": "finished",
        "tricky:nan": "failed",
        "tricky:fragile": "failed",
    }
    assert runs["tricky:good"].finished
    assert "the simulator burnt down" in status["tricky:fragile"]["error"]
    assert "in burn" in status["tricky:fragile"]["traceback"]
    assert "reward" in status["tricky:nan"]["error"]
    assert status["tricky:killed"]["error"].startswith("worker was killed by signal 9 (SIGKILL)")
    assert "last words" in status["tricky:killed"]["traceback"]
    assert sum(line.startswith("FAILED") for line in paper.lines) == 3
    # Only a worker that died is started again, not one that said what went wrong.
    assert sum("starting it again (1 of 1)" in line for line in paper.lines) == 1
    assert any(line.startswith("finished  tiny_tricky-good_s0-") for line in paper.lines)
    assert not any("talks" in line for line in paper.lines)
    assert StudyFolder(out).read_study()["command"] == "kanbatsu study x"

    # Each worker had its share of the cores, and so had every library in it.
    share = len(shares(usable_cores(), 2)[0])
    assert (runs["tricky:good"].machine() or {})["cores"] == share

    # A second call tries what failed again, and leaves alone what is finished.
    (tasks / "repaired").touch()
    before = contents(runs["tricky:good"].path.parent.parent)
    again = Paper()
    assert run_study(study, out, replace(TWO, retries=0), "kanbatsu study x", again) is False
    after = contents(out)
    finished = [path for path in before if "tricky-good" in path.parts[-2]]
    assert finished
    assert all(before[path] == after[path] for path in finished)
    assert runs["tricky:fragile"].finished
    assert sum(line.startswith("FAILED") for line in again.lines) == 2


def test_a_finished_study_starts_no_worker(
    tasks: Path, make_tiny_study: Callable[..., Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    study, out = make_tiny_study(("tricky:good",)), tasks / "out"
    assert run_study(study, out, PlaceConfig(workers=1), command="", display=Paper())
    before = contents(out)

    def forbidden(*arguments: object, **more: object) -> None:
        raise AssertionError("a worker was started")

    monkeypatch.setattr(supervise, "Worker", forbidden)
    paper = Paper()
    assert run_study(study, out, PlaceConfig(workers=1), command="", display=paper)
    assert contents(out) == before
    assert paper.lines[-1].endswith("all 1 runs are finished.")

    # Nor does a study of which an archive holds every run.
    archive(out, tasks / "kept")
    assert run_study(study, tasks / "kept", PlaceConfig(workers=1), command="", display=paper)
    assert paper.lines[-1].endswith("all 1 runs are finished.")


def test_a_folder_in_use_is_refused(tmp_path: Path, make_tiny_study: Callable[..., Study]) -> None:
    study = make_tiny_study(("gym/Pendulum-v1",))
    with lock(tmp_path), pytest.raises(StudyError, match="another kanbatsu"):
        run_study(study, tmp_path, PlaceConfig(workers=1), command="", display=Paper())


def test_impossible_numbers_are_refused_all_at_once(
    tmp_path: Path, make_tiny_study: Callable[..., Study]
) -> None:
    study = make_tiny_study(("gym/Pendulum-v1",))
    config = PlaceConfig(workers=0, retries=-1, run_timeout=0.0)
    with pytest.raises(StudyError) as caught:
        run_study(study, tmp_path, config, command="", display=Paper())
    assert str(caught.value).splitlines() == [
        "workers must be at least 1, not 0",
        "retries must be at least 0, not -1",
        "run-timeout must be greater than 0, not 0",
    ]
    assert not any(tmp_path.iterdir())


def test_a_damaged_result_fails_its_run_alone_and_says_what_to_do(
    tasks: Path, make_tiny_study: Callable[..., Study]
) -> None:
    study, paper = make_tiny_study(("tricky:good", "gym/Pendulum-v1")), Paper()
    run = folders(study, tasks)["gym/Pendulum-v1"]
    run.write_config({"env_steps": 40})
    (run.path / "metrics.jsonl").write_text("nonsense\n")
    assert not run_study(study, tasks, TWO, command="", display=paper)
    assert folders(study, tasks)["tricky:good"].finished
    (failure,) = (line for line in paper.lines if line.startswith("FAILED"))
    assert "metrics.jsonl, line 1, is damaged" in failure
    assert "Delete the run's folder" in failure
    assert (run.read_status() or {})["state"] == "failed"
