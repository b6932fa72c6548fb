"""Ray: a study that this machine began, finished on a cluster of two nodes."""

import io
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from kanbatsu.engine.place import PlaceConfig
from kanbatsu.engine.progress import LineDisplay
from kanbatsu.engine.run_study import run_study
from kanbatsu.files.lock import StudyError
from kanbatsu.files.store import StudyFolder
from kanbatsu.study.plan import Study

pytest.importorskip("ray", reason="Ray is an extra: pip install 'kanbatsu[ray]'")

# Ray forks to start a cluster's processes, which JAX, in use by now, warns of; they never use JAX.
pytestmark = pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")


@pytest.fixture
def cluster(tasks: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Start a cluster of two nodes, each a process tree of its own, with one CPU each."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ray.cluster_utils import Cluster
    started = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    started.add_node(num_cpus=1)
    yield started
    started.shutdown()


def test_a_study_is_begun_here_and_finished_on_a_cluster(
    cluster: Any, tasks: Path, make_tiny_study: Callable[..., Study]
) -> None:
    out, said = tasks / "out", io.StringIO()
    names = ("tricky:good", "tricky:nan")
    assert run_study(make_tiny_study(names[:1]), out, PlaceConfig(workers=1), command="")
    grown = make_tiny_study(names, seeds=(0, 1))
    first = StudyFolder(out).run_folder(grown.runs()[0].run_id).path / "metrics.jsonl"
    before = first.stat().st_mtime_ns

    config = PlaceConfig(engine="ray", address=cluster.address, memory=0.5)
    display = LineDisplay(Console(file=said, width=200))
    assert run_study(grown, out, config, command="", display=display) is False
    assert "on Ray, 2 nodes with 2 CPUs and 0 GPUs; each run takes 1 and 0." in said.getvalue()
    assert first.stat().st_mtime_ns == before
    for run in grown.runs():
        files = StudyFolder(out).run_folder(run.run_id)
        assert files.finished == (run.task == "tricky:good")
        if run.task == "tricky:nan":
            assert "reward" in (files.read_status() or {})["error"]
        elif run.seed == 1:
            assert (files.machine() or {})["cores"] == 1
    assert not (out / ".compiled").exists()


def test_a_cluster_that_is_not_there_is_told(
    tasks: Path, make_tiny_study: Callable[..., Study]
) -> None:
    config = PlaceConfig(engine="ray", address="nonsense")
    with pytest.raises(StudyError, match="no Ray cluster at nonsense"):
        run_study(make_tiny_study(("tricky:good",)), tasks / "out", config, command="")
