"""A study seen from outside, by its files alone; and trackers that listen to the same files."""

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from kanbatsu.engine import track
from kanbatsu.engine.progress import LineDisplay, View
from kanbatsu.engine.track import Tracker
from kanbatsu.engine.watch import watch
from kanbatsu.files.lock import StudyError, own
from kanbatsu.files.store import RunFolder, StudyFolder
from kanbatsu.files.tables import to_dict
from kanbatsu.study.plan import Study, study_record


class Seen(LineDisplay):
    """Keeps what was shown."""

    def __init__(self) -> None:
        self.file, self.views = io.StringIO(), list[View]()
        super().__init__(Console(file=self.file, width=200))

    def show(self, view: View) -> None:
        self.views.append(view)


@pytest.fixture
def begun(tmp_path: Path, make_tiny_study: Callable[..., Study]) -> tuple[Path, list[RunFolder]]:
    """Return a study of which one run is finished, one failed, one stopped, and two wait."""
    study = make_tiny_study(("gym/Pendulum-v1",), seeds=(0, 1, 2, 3, 4))
    folder = StudyFolder(tmp_path)
    folder.write_study(study_record(study, "x"))
    files = [folder.run_folder(run.run_id) for run in study.runs()]
    for planned, run in zip(study.runs()[:3], files, strict=False):
        run.write_config(to_dict(planned.run))
        run.append({"kind": "evaluation", "env_steps": 0, "mean_return": 1.0})
    files[0].append({"kind": "evaluation", "env_steps": 40, "mean_return": 2.0})
    files[0].write_status("finished")
    files[1].write_status("failed", "it burnt down")
    files[2].append({"kind": "probe", "env_steps": 20, "metrics": {"critic/dormant_0.1": 0.9}})
    files[2].write_status("running")
    return tmp_path, files


def test_states_are_read_from_files_and_from_locks(begun: tuple[Path, list[RunFolder]]) -> None:
    out, files = begun
    seen = Seen()
    with own(files[2].path), own(files[3].path):
        watch(out, once=True, display=seen)
    (view,) = seen.views
    assert (view.runs, view.finished, view.failed, view.stopped, view.waiting) == (5, 1, 1, 0, 1)
    (running,) = view.running  # the other one has no results yet
    assert running.env_steps == 20
    assert running.warning == "critic: 90 % of units dormant"
    assert view.share == (40 + 40 + 20) / 200
    printed = seen.file.getvalue()
    assert "it burnt down" in printed
    assert "1 finished, 1 failed, 2 running, 1 waiting" in printed


def test_it_ends_when_nobody_works_any_more(begun: tuple[Path, list[RunFolder]]) -> None:
    seen = Seen()
    watch(begun[0], every=60.0, display=seen)
    assert seen.file.getvalue().splitlines()[-1] == "1 finished, 1 failed, 1 stopped, 2 waiting"


@pytest.mark.parametrize("every", [0.0, -1.0])
def test_no_time_between_two_looks_is_refused(
    begun: tuple[Path, list[RunFolder]], every: float
) -> None:
    with pytest.raises(StudyError, match="every must be greater than 0"):
        watch(begun[0], every=every, display=Seen())


def test_tensorboard_gets_every_number_once(begun: tuple[Path, list[RunFolder]]) -> None:
    pytest.importorskip("tensorboard")
    out, files = begun
    with Tracker("tensorboard", StudyFolder(out), [run.path.name for run in files]) as tracker:
        tracker.update()
        # A run that continues cuts lines off, writes them again, and goes on.
        size = files[2].sizes()["metrics.jsonl"]
        files[2].truncate({"metrics.jsonl": 0})
        tracker.update()
        files[2].append({"kind": "evaluation", "env_steps": 0, "mean_return": 1.0})
        files[2].append({"kind": "probe", "env_steps": 20, "metrics": {"critic/dormant_0.1": 0.9}})
        assert files[2].sizes()["metrics.jsonl"] == size
        tracker.update()
        files[2].append({"kind": "episode", "env_steps": 30, "return": 5.0})
    assert scalars(out / "tensorboard" / files[2].path.name) == [
        ("evaluation/mean_return", 0, 1.0),
        ("probe/critic/dormant_0.1", 20, pytest.approx(0.9)),
        ("episode/return", 30, 5.0),
    ]
    assert not (out / "tensorboard" / files[4].path.name).exists()


def test_what_the_last_update_opens_is_closed_too(
    begun: tuple[Path, list[RunFolder]], monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[str, str]] = []

    class Fake:
        def __init__(self, folder: StudyFolder, run_id: str) -> None:
            self.run_id = run_id

        def write(self, env_steps: int, values: dict[str, float]) -> None:
            done.append((self.run_id, "write"))

        def flush(self) -> None:
            done.append((self.run_id, "flush"))

        def close(self) -> None:
            done.append((self.run_id, "close"))

    monkeypatch.setitem(sys.modules, "wandb", track)  # whether it is installed or not
    monkeypatch.setitem(track._SINKS, "wandb", Fake)
    out, files = begun
    names = [run.path.name for run in files]
    with Tracker("wandb", StudyFolder(out), names):
        pass
    written = {run_id for run_id, what in done if what == "write"}
    assert written == {run_id for run_id, what in done if what == "close"}
    assert written


def scalars(folder: Path) -> list[tuple[str, int, Any]]:
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    (path,) = folder.iterdir()
    return [
        (value.tag, event.step, value.tensor.float_val[0])
        for event in EventFileLoader(str(path)).Load()
        for value in event.summary.value
    ]


def test_an_absent_tracker_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(StudyError, match=r"pip install 'kanbatsu\[wandb\]'"):
        Tracker("wandb", StudyFolder(tmp_path), [])
    with Tracker(None, StudyFolder(tmp_path), ["a"]) as tracker:
        tracker.update()
