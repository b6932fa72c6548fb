"""A study carried out from Python: matched, checked, run, reported; and the same call continues."""

import errno
import io
import os
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

import kanbatsu
from kanbatsu.conduct import ReportError
from kanbatsu.engine.place import PlaceConfig
from kanbatsu.engine.progress import LineDisplay, no_display
from kanbatsu.files.lock import StudyError
from kanbatsu.files.store import StudyFolder
from kanbatsu.report.page import write_report

STUDY = """
question = "Is a wide sparse critic as good?"
tasks = ["TASK"]
env_steps = 60
seeds = 1
actor = { network = "mlp", width = 8, blocks = 1 }
critic = { network = "mlp", width = 8, blocks = 1 }

[train]
batch_size = 4
warmup_interactions = 10
evaluation_episodes = 1
replay_capacity = 100

[arm.dense]
"""
WIDE = """
[arm.wide]
critic = { width = 16 }
match = { to = "dense", what = "kept" }
[arm.slow]
train = { updates_per_interaction = 4 }
match = { to = "dense", what = "time" }
"""
TWO = PlaceConfig(workers=2)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "study.toml"
    path.write_text(STUDY.replace("TASK", "kanbatsu.envs.probe:action_reward") + WIDE)
    return path


def test_matches_are_solved_once_and_the_report_is_written(file: Path) -> None:
    printed = io.StringIO()
    display = LineDisplay(Console(file=printed, width=200))
    checked = []
    study = kanbatsu.load_study(file)
    first = kanbatsu.carry_out(study, "out", place=TWO, display=display, on_checked=checked.append)
    assert first.complete
    assert first.page == Path("out/report.html")
    assert first.page.exists()
    assert checked == [first.kept]
    assert first.kept["wide"]["critic"].kept == first.kept["dense"]["critic"].total
    kept, time = first.matches
    assert kept.startswith("wide is matched to dense in kept: critic.sparsity = ")
    assert time.startswith("slow is matched to dense in time: env_steps = ")
    assert all(line.startswith("slow was to take as long as dense") for line in first.timed)
    lines = printed.getvalue().splitlines()
    assert lines[:3] == ["timing a few seconds of every arm, for a match of time ...", kept, time]

    printed.truncate(0)
    again = kanbatsu.carry_out(study, "out", place=TWO, display=display)
    assert again == first
    assert "timing" not in printed.getvalue()
    assert "all 3 runs are finished." in printed.getvalue()
    assert again.study != study  # as it was read, it is not solved
    assert [row["state"] for row in again.results.runs()] == ["finished"] * 3
    assert repr(again).startswith("Is a wide sparse critic as good?\n3 of 3 runs")
    assert "<code>out/report.html</code>" in again._repr_html_()
    japanese = kanbatsu.carry_out(again.study, "out", place=TWO, display=no_display(), lang="ja")
    assert Path("out/report.ja.html").exists()
    assert "全 3 回の実行" in repr(japanese)
    assert repr(replace(first, page=Path("elsewhere.html"))).endswith("no report at elsewhere.html")


def test_a_run_that_fails_leaves_the_study_incomplete_and_the_same_call_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text(
        "import os\n"
        "from kanbatsu.envs.probe import ProbeEnvironment\n"
        "def make():\n"
        "    return ProbeEnvironment(lambda cue, action: float(os.environ.get('PAY', 'nan')))\n"
    )
    (tmp_path / "study.toml").write_text(STUDY.replace("TASK", "mine:make"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    study = kanbatsu.load_study("study.toml", ["env_steps=40"])
    outcome = kanbatsu.carry_out(study, "out", display=no_display())
    assert not outcome.complete
    (run,) = study.runs()
    assert (StudyFolder(Path("out")).run_folder(run.run_id).read_status() or {})[
        "state"
    ] == "failed"
    assert "mine:make" in outcome.page.read_text()
    monkeypatch.setenv("PAY", "7.0")
    assert kanbatsu.carry_out(study, "out", display=no_display()).complete


def test_what_is_refused_is_refused_before_anything_is_written(file: Path) -> None:
    study = kanbatsu.load_study(file)
    with pytest.raises(StudyError, match="workers must be at least 1, not 0"):
        kanbatsu.carry_out(study, "out", place=PlaceConfig(workers=0))
    assert not Path("out").exists()


def test_a_report_that_cannot_be_written_says_that_the_runs_are_stored(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(out: Path, lang: str) -> Path:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("kanbatsu.conduct.write_report", full)
    study = kanbatsu.load_study(file)
    dense = replace(study, arms={"dense": study.arms["dense"]})
    message = r"every run is finished and stored in out.*No space left.*`kanbatsu report out`"
    with pytest.raises(ReportError, match=message):
        kanbatsu.carry_out(dense, "out", place=TWO, display=no_display())
    monkeypatch.undo()
    assert write_report(Path(file.parent / "out")).exists()
