"""Trainings by somebody else's function: called, listened to, and refused where they mislead."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from kanbatsu.files.store import RunFolder
from kanbatsu.files.tables import to_dict
from kanbatsu.run.carry import run_one
from kanbatsu.run.check import check
from kanbatsu.run.external import ExternalConfig, ExternalSchedule
from kanbatsu.run.record import Run, run_from_dict
from kanbatsu.run.signature import parameters

MODULE = """
import json, os, sys
from pathlib import Path

def yields(task, seed, env_steps, folder, sparsity=0.0):
    assert folder.is_dir() and not list(folder.iterdir())
    (folder / "left").write_text("")
    for share in (0, 0.5, 1):
        yield int(share * env_steps), [share * seed, share * seed + 2 * sparsity]

def everything(**given):
    Path("given.json").write_text(json.dumps({**given, "folder": given["folder"].name}))
    return [(given["env_steps"], 1)]

def logs(env_steps, folder, upto=1.0, width=10):
    rows = "".join(f"{at},{width},1\\n" for at in range(int(upto * env_steps / width)))
    (folder / "monitor.csv").write_text('#{"t_start": 0.0}\\nr,l,t\\n' + rows)
    (folder / "networks.json").write_text('{"actor": {"kept": 3, "total": 9}}')

def early(): yield 50, 1.0
def back(): yield from [(50, 1.0), (40, 1.0)]
def words(): yield "fifty"
def nothing(): pass
def number(): return 3
def raises(): raise RuntimeError("the plant is on fire")
def leaves(): sys.exit(3)
def needs(gain): return [(100, gain)]
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "my_training.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    yield "my_training"
    sys.modules.pop("my_training", None)
    parameters.cache_clear()
    sys.path.remove(str(tmp_path)) if str(tmp_path) in sys.path else None


def external(function: str, **settings: Any) -> Run:
    config = ExternalConfig(f"my_training:{function}", "dense", settings)
    return Run("gym/CartPole-v1", "external", 4, 100, config, ExternalSchedule())


def evaluations(folder: Path) -> list[tuple[int, float]]:
    lines = RunFolder(folder).metrics()
    return [(x["env_steps"], x["mean_return"]) for x in lines if x["kind"] == "evaluation"]


@pytest.mark.usefixtures("module")
def test_what_a_training_yields_is_its_course(tmp_path):
    run = external("yields", sparsity=0.5)
    assert check(run) == {}
    seen: list[int] = []
    run_one(run, tmp_path / "run", seen.append)
    assert evaluations(tmp_path / "run") == [(0, 0.5), (50, 2.5), (100, 4.5)]
    assert seen == [0, 50, 100]
    files = RunFolder(tmp_path / "run")
    assert files.finished
    assert [line["env_steps"] for line in files.timing()] == seen
    assert run_from_dict(to_dict(run)) == run
    run_one(run, tmp_path / "run", seen.append)  # finished, and not trained again
    assert seen == [0, 50, 100]
    (tmp_path / "run" / "status.json").write_text('{"state": "running", "error": null}')
    (tmp_path / "run" / "metrics.jsonl").write_text("")
    run_one(run, tmp_path / "run")  # stopped, and begun anew in an empty folder
    assert len(evaluations(tmp_path / "run")) == 3


@pytest.mark.usefixtures("module")
def test_a_function_that_takes_anything_is_given_everything(tmp_path):
    run_one(external("everything", sparsity=0.5, net={"width": 8}), tmp_path / "run")
    assert json.loads((tmp_path / "given.json").read_text()) == {
        "arm": "dense",
        "task": "gym/CartPole-v1",
        "seed": 4,
        "env_steps": 100,
        "folder": "training",
        "sparsity": 0.5,
        "net": {"width": 8},
    }


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize(("upto", "width"), [(1.0, 1), (0.96, 1), (0.6, 60)])
def test_a_training_may_leave_a_log_instead(tmp_path, upto, width):
    run_one(external("logs", upto=upto, width=width), tmp_path / "run")
    assert evaluations(tmp_path / "run")[-1][0] == 100
    (networks,) = (x for x in RunFolder(tmp_path / "run").metrics() if x["kind"] == "networks")
    assert networks["networks"]["actor"]["kept"] == 3


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize(
    ("function", "settings", "message"),
    [
        ("early", {}, "ended at 50 of 100 env steps"),
        ("logs", {"upto": 0.5, "width": 5}, "ended at 50 of 100 env steps"),
        ("back", {}, "from 50 env steps back to 40"),
        ("words", {}, "yielded 'fifty'"),
        ("nothing", {}, "left no log"),
        ("number", {}, "returned int"),
        ("raises", {}, "the plant is on fire"),
        ("leaves", {}, r"sys\.exit\(3\)"),
    ],
)
def test_what_is_no_result_is_the_failure_of_the_run(tmp_path, function, settings, message):
    with pytest.raises(Exception, match=message):
        run_one(external(function, **settings), tmp_path / "run")
    status = RunFolder(tmp_path / "run").read_status()
    assert status is not None
    assert status["state"] == "failed"
    assert status["traceback"]


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize(
    ("function", "settings", "message"),
    [
        ("yields", {"sparsty": 0.5}, "no parameter 'sparsty'.*Did you mean 'sparsity'"),
        ("yields", {"seed": 1}, "is given 'seed' by the run"),
        ("needs", {}, "needs 'gain': set it in the arm"),
        ("yield", {}, "no function 'yield'.*Did you mean 'yields'"),
    ],
)
def test_mistakes_are_named_before_anything_is_trained(function, settings, message):
    with pytest.raises(ValueError, match=message):
        check(external(function, **settings))


def test_code_that_a_file_names_can_be_forbidden(monkeypatch, module):
    monkeypatch.setenv("KANBATSU_NO_OWN_CODE", "1")
    with pytest.raises(ValueError, match="--no-own-code forbids"):
        check(external("yields"))
