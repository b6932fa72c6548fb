"""Trainings of other libraries as arms: found, read, compared, and refused where they cannot be."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from kanbatsu.files.lock import StudyError
from kanbatsu.files.tables import RecordError
from kanbatsu.report.gather import Asked, gather
from kanbatsu.report.logs import read_events, read_monitors
from kanbatsu.report.page import write_report
from kanbatsu.report.results import read_study

RULE = {
    "goal": "better",
    "measure": "mean_difference",
    "minimum_effect": 0.0,
    "maximal_regression": None,
    "max_failure_rate": None,
    "saves": "kept",
    "confidence": 0.95,
    "seeds": 3,
    "control": None,
    "arms": [],
}


def monitor(path: Path, returns: Sequence[float], *, length: int = 10, began: float = 0.0) -> None:
    """Write what SB3's Monitor writes, with an episode every second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    head = "#" + json.dumps({"t_start": began, "env_id": "CartPole-v1"})
    rows = [f"{value},{length},{second + 1.0}" for second, value in enumerate(returns)]
    path.write_text("\n".join([head, "r,l,t", *rows, ""]))


def evaluations(path: Path, last: float) -> None:
    """Write what SB3's EvalCallback writes, of two evaluations of two episodes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    results = np.array([[0.0, 2.0], [last - 1, last + 1]])
    np.savez(path, timesteps=np.array([50, 100]), results=results, ep_lengths=results)


def events(folder: Path, scalars: dict[str, list[tuple[int, float]]]) -> None:
    """Write event files with TensorBoard's own writer."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(folder) as writer:
        for tag, values in scalars.items():
            for at, value in values:
                writer.add_scalar(tag, value, at)


def arms(root: Path, write: Callable[[Path, float], None], folder: str = "seed_{}") -> list[Path]:
    """Write three trainings of two arms; the second's returns are 50 higher."""
    for arm, level in (("dense", 10.0), ("sparse", 60.0)):
        for seed in range(3):
            write(root / arm / folder.format(seed), level + seed)
    return [root / "dense", root / "sparse"]


def finals(out: Path, task: str) -> dict[str, list[float]]:
    return {arm.name: arm.finals(task).tolist() for arm in read_study(out).arms}


def test_monitors_of_parallel_environments_are_one_training(tmp_path):
    monitor(tmp_path / "0.monitor.csv", [1.0, 3.0], began=100.0)
    monitor(tmp_path / "1.monitor.csv", [2.0], length=30, began=100.5)
    log = read_monitors(sorted(tmp_path.glob("*.csv")))
    assert log is not None
    assert log.points == ((10, (1.0,)), (40, (2.0,)), (50, (3.0,)))
    assert log.seconds == 2.0


def test_a_training_that_was_killed_or_went_on_is_read(tmp_path):
    monitor(tmp_path / "monitor.csv", [1.0, 3.0])
    text = (tmp_path / "monitor.csv").read_text()
    (tmp_path / "monitor.csv").write_text(text + text.partition("\n")[2] + "9.0,1")
    log = read_monitors([tmp_path / "monitor.csv"])
    assert log is not None
    assert sum(len(point.returns) for point in log.points) == 4


def test_evaluations_make_a_verdict_and_are_taken_before_training_episodes(tmp_path):
    def write(folder: Path, level: float) -> None:
        evaluations(folder / "evaluations.npz", level)
        monitor(folder / "monitor.csv", [-level] * 4)
        kept = 100 if "sparse" in str(folder) else 1000
        table = {"actor": {"kept": kept, "total": 1000}}
        (folder / "networks.json").write_text(json.dumps(table))

    out = tmp_path / "out"
    gather(arms(tmp_path / "logs", write)[:2], out, Asked(decision=RULE))
    page = write_report(out).read_text()
    assert finals(out, "gym/CartPole-v1") == {"dense": [10, 11, 12], "sparse": [60, 61, 62]}
    summary = json.loads((out / "summary.json").read_text())
    assert summary["verdict"]["decision"] == "adopt"
    assert summary["verdict"]["effect"]["value"] == 50.0
    assert summary["verdict"]["gains"]["kept"] == {"arm": 100.0, "control": 1000.0}
    assert "Adopt sparse" in page
    assert "Returns are those of evaluations (evaluations.npz)." in page
    assert "trained with your own training code on gym/CartPole-v1" in page
    assert "独自の学習コード" in write_report(out, "ja").read_text()


def test_one_folder_of_arms_with_a_file_for_each_seed(tmp_path):
    arms(
        tmp_path / "logs",
        lambda path, level: monitor(path, [0.0] * 19 + [level]),
        "s{}.monitor.csv",
    )
    study = gather([tmp_path / "logs"], tmp_path / "out", Asked(control="sparse"))
    assert study["seeds"] == [0, 1, 2]
    assert finals(tmp_path / "out", "gym/CartPole-v1")["sparse"] == [60, 61, 62]
    assert [arm.name for arm in read_study(tmp_path / "out").arms] == ["sparse", "dense"]
    gather([tmp_path / "logs"], tmp_path / "out", Asked())  # again, in its own folder


@pytest.mark.parametrize(
    "tag", ["eval/mean_reward", "charts/episodic_return", "rollout/ep_rew_mean"]
)
def test_event_files_of_tensorboard(tmp_path, tag):
    events(
        tmp_path / "logs" / "a" / "Ant-v5__sac__7__1690",
        {tag: [(1, 2.0), (20, 5.0)], "loss": [(1, 1)]},
    )
    study = gather([tmp_path / "logs"], out := tmp_path / "out", Asked())
    assert (study["seeds"], study["tasks"], study["env_steps"]) == ([7], ["gym/Ant-v5"], 20)
    assert finals(out, "gym/Ant-v5") == {"a": [5.0]}


def test_without_tensorboard_the_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tensorboard.util.tensor_util", None)
    with pytest.raises(RecordError, match="pip install tensorboard"):
        read_events([tmp_path / "events.out.tfevents.1"])


def test_a_training_that_was_cut_off_is_named_as_missing(tmp_path):
    folders = arms(tmp_path, lambda path, level: monitor(path / "monitor.csv", [level] * 100))
    monitor(tmp_path / "sparse" / "seed_1" / "monitor.csv", [1.0] * 40)
    monitor(tmp_path / "sparse" / "seed_2" / "monitor.csv", [])
    gather(folders, tmp_path / "out", Asked(decision=RULE))
    write_report(tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert [run["error"] for run in summary["missing"]] == [
        "the log ends at 400 of 1,000 env steps",
        "no episode ended in this training",
    ]
    assert summary["verdict"]["decision"] == "extend"


def test_what_cannot_be_compared_is_refused(tmp_path, make_study):
    root = tmp_path / "logs"
    monitor(root / "a" / "s0" / "monitor.csv", [1.0])
    evaluations(root / "b" / "s0" / "evaluations.npz", 3.0)
    (root / "c").mkdir()
    with pytest.raises(RecordError, match=r"no kind of log in common.*a/s0: monitor.csv; b/s0"):
        gather([root / "a", root / "b"], tmp_path / "out", Asked())
    with pytest.raises(RecordError, match="c holds no training"):
        gather([root / "a", root / "c"], tmp_path / "out", Asked())
    with pytest.raises(RecordError, match=r"'aa'\. Did you mean 'a'"):
        gather([root / "a", root / "b"], tmp_path / "out", Asked(control="aa"))
    with pytest.raises(RecordError, match="is no folder"):
        gather([tmp_path / "nowhere"], tmp_path / "out", Asked())
    shutil.rmtree(root / "b")
    shutil.rmtree(root / "c")
    (root / "a" / "s0" / "networks.json").write_text('{"actor": {"kept": 9, "total": 1}}')
    with pytest.raises(RecordError, match="kept at most total"):
        gather([root], tmp_path / "out", Asked())
    (root / "a" / "s0" / "networks.json").unlink()
    (root / "a" / "s0" / "monitor.csv").write_text("step,reward\n1,2\n")
    with pytest.raises(RecordError, match="no columns r, l and t"):
        gather([root], tmp_path / "out", Asked())
    make_study(tmp_path / "own")
    monitor(root / "a" / "s0" / "monitor.csv", [1.0])
    with pytest.raises(StudyError, match="runs of its own"):
        gather([root], tmp_path / "own", Asked())
