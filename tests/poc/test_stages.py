"""From a plan to a verdict with planted results, stopped wherever it can be stopped."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from kanbatsu import conduct
from kanbatsu.engine.claim import claim
from kanbatsu.files.lock import StudyError
from kanbatsu.files.store import StudyFolder
from kanbatsu.files.tables import RecordError, to_dict
from kanbatsu.poc import stages
from kanbatsu.poc.plan import poc_from_dict
from kanbatsu.poc.search import rank
from kanbatsu.report.page import write_report
from kanbatsu.report.results import read_study
from kanbatsu.study.plan import check_study, study_record

TASK = "kanbatsu.envs.probe:action_reward"
MLP = {"network": "mlp", "width": 8, "blocks": 1}
TRUTH = {"dense": 0.0, "critic-8-s25": 1.0, "critic-8-s50": 9.0, "critic-8-s75": -4.0}


def poc(hours=1.0, **changes):
    table = {
        "question": "Does the planted truth come out?",
        "tasks": [TASK],
        "env_steps": 120,
        "control": "dense",
        "actor": MLP,
        "critic": MLP,
        "train": {"warmup_interactions": 10, "batch_size": 4, "replay_capacity": 100},
        "arm": {"dense": {}},
        "search": {"sparsities": [0.25, 0.5, 0.75]},
        "budget": {"hours": hours, "workers": 2},
    }
    return poc_from_dict(table | changes)


class Engine:
    """Stands for the engine: plants a return for every run, and stops after so many."""

    def __init__(self, truth, stop_after=None, seconds=1.0):
        self.truth, self.stop_after, self.seconds = truth, stop_after, seconds
        self.seen: dict[str, list[int]] = {}
        self.done = 0

    def __call__(self, study, out, place, command, *more):
        folder = StudyFolder(out)
        claim(folder, study_record(study, command))
        for planned in study.runs():
            self.seen.setdefault(out.name, []).append(planned.seed)
            run = folder.run_folder(planned.run_id)
            if run.finished:
                continue
            if self.done == self.stop_after:
                raise KeyboardInterrupt
            self.done += 1
            run.write_config(to_dict(planned.run))
            noise = np.random.default_rng([planned.seed, len(planned.arm)]).normal()
            value = self.truth[planned.arm] + noise
            for at in (0, planned.run.env_steps):
                run.append(
                    {
                        "kind": "evaluation",
                        "env_steps": at,
                        "mean_return": value,
                        "returns": [value],
                        "lengths": [1],
                    }
                )
            for part in range(1, 5):
                run.append_timing(
                    {
                        "env_steps": planned.run.env_steps * part // 4,
                        "updates": 30 * part,
                        "seconds": self.seconds * part,
                        "update_seconds": 0.5 * self.seconds * part,
                        "update_milliseconds": 1.0,
                    }
                )
            run.write_status("finished")
        return True


@pytest.fixture
def carry_out(tmp_path, monkeypatch):
    def run(plan, engine, out="out", said=None):
        monkeypatch.setattr(conduct, "run_study", engine)
        return stages.run_poc(plan, tmp_path / out, "", (said if said is not None else []).append)

    return run


def test_the_best_candidate_is_adopted_on_fresh_seeds(carry_out, tmp_path):
    engine, said = Engine(TRUTH), []
    found = carry_out(poc(), engine, said=said)
    assert found["verdict"]["decision"] == "adopt"
    assert (found["stage"], found["verdict"]["arm"]) == ("confirm", "critic-8-s50")
    assert [each["go_on"] for each in found["search"]] == [
        ["critic-8-s25", "critic-8-s50"],
        ["critic-8-s50"],
    ]
    assert sorted(engine.seen) == ["confirm", "pilot", "search-1", "search-2"]
    assert not set(engine.seen["confirm"]) & {
        seed for name, seeds in engine.seen.items() if name != "confirm" for seed in seeds
    }
    assert found["verdict"]["comparisons"] == 1
    assert json.loads((tmp_path / "out" / "verdict.json").read_text()) == found
    assert "came out of 3 candidates" in (tmp_path / "out/confirm/report.html").read_text()
    page = write_report(tmp_path / "out", "ja")
    assert page == tmp_path / "out" / "report.ja.html"
    for stage in sorted(engine.seen):
        assert f'href="{stage}/report.ja.html"' in page.read_text()
        assert (tmp_path / "out" / stage / "report.ja.html").exists()
    assert "critic-8-s50 を採用する" in page.read_text()
    assert "Adopt critic-8-s50" in (tmp_path / "out" / "report.html").read_text()
    assert any("the budget is 1" in line for line in said)


def test_wherever_it_is_stopped_it_ends_alike(carry_out, tmp_path):
    whole = carry_out(poc(), Engine(TRUTH), "whole")
    summary = (tmp_path / "whole/confirm/summary.json").read_bytes()
    # 4 runs of the pilot, 8 and 6 of the search, 10 of the confirmation: one stop inside of each.
    for stop in (2, 8, 15, 20):
        out = f"stopped-{stop}"
        with pytest.raises(KeyboardInterrupt):
            carry_out(poc(), Engine(TRUTH, stop_after=stop), out)
        assert not (tmp_path / out / "verdict.json").exists()
        assert carry_out(poc(), Engine(TRUTH), out) == whole
        assert (tmp_path / out / "confirm/summary.json").read_bytes() == summary


@pytest.mark.parametrize("what", ["kept", "flops"])
def test_matched_candidates_are_searched_with_the_env_steps_of_the_search(
    carry_out, tmp_path, what
):
    names = [f"critic-{width}-{'kept' if what == 'kept' else 's0'}" for width in (16, 32)]
    truth = {"dense": 0.0, names[0]: 9.0, names[1]: 1.0}
    plan = poc(search={"widths": [16, 32], "match": what, "env_steps": 60})
    found = carry_out(plan, Engine(truth))

    def ends(stage):
        folder = StudyFolder(tmp_path / "out" / stage)
        return {
            run.arm: folder.run_folder(run.run_id).read_config()["env_steps"]
            for run in read_study(folder.path).runs
        }

    short, whole = ends("search-1"), ends("confirm")
    assert (short["dense"], whole["dense"]) == (60, 120)
    for name in names:
        # A wider critic does as many operations in fewer env steps.
        assert short[name] == 60 if what == "kept" else 10 < short[name] < 60
    assert short[names[0]] < whole[names[0]]
    assert carry_out(plan, Engine(truth)) == found


def test_a_failed_pilot_names_the_page_that_was_written(tmp_path, monkeypatch):
    def fail(study, out, place, command, *more):
        claim(StudyFolder(out), study_record(study, command))
        return False

    monkeypatch.setattr(conduct, "run_study", fail)
    with pytest.raises(StudyError) as error:
        stages.run_poc(poc(), tmp_path, "", lambda line: None, "ja")
    page = tmp_path / "pilot" / "report.ja.html"
    assert f"{page} names them" in str(error.value)
    assert page.exists()


def test_a_hopeless_search_ends_without_a_confirmation(carry_out, tmp_path):
    worse = {name: -9.0 if name != "dense" else 0.0 for name in TRUTH}
    search = {"sparsities": [0.25, 0.5, 0.75], "seeds": 3}
    found = carry_out(poc(search=search), Engine(worse))
    assert (found["stage"], found["verdict"]["decision"]) == ("search", "reject")
    assert found["verdict"]["effect"]["interval"][1] < 0
    assert not (tmp_path / "out/confirm").exists()
    go_on = {"search": search, "stop": {"hopeless": False}}
    found = carry_out(poc(**go_on), Engine(worse), "other")
    assert (found["stage"], found["verdict"]["decision"]) == ("confirm", "reject")


def test_what_cannot_fit_is_refused_after_the_pilot(carry_out, tmp_path):
    with pytest.raises(RecordError) as error:
        carry_out(poc(hours=0.001), Engine(TRUTH))
    assert "the plan does not fit: it needs about" in str(error.value)
    assert "What would fit: env_steps =" in str(error.value)
    assert [path.name for path in (tmp_path / "out").iterdir() if path.is_dir()] == ["pilot"]
    assert carry_out(poc(hours=1.0), Engine(TRUTH))["verdict"]["decision"] == "adopt"
    with pytest.raises(StudyError, match="holds another plan"):
        carry_out(poc(env_steps=130), Engine(TRUTH))


def test_the_control_is_not_changed_after_the_runs(carry_out):
    arms = {"arm": {"dense": {}, "thin": {"critic": {"sparsity": 0.25}}}, "search": {}}
    carry_out(poc(**arms), Engine({"dense": 0.0, "thin": 9.0}))
    with pytest.raises(StudyError, match=r"changed\.\n  control: dense there, thin here\n"):
        carry_out(poc(control="thin", **arms), Engine({"dense": 0.0, "thin": 9.0}))


def test_a_task_that_fails_at_reset_is_refused_before_anything_runs(
    carry_out, tmp_path, monkeypatch
):
    (tmp_path / "broken.py").write_text(
        "from kanbatsu.envs.probe import ProbeEnvironment\n"
        "class Broken(ProbeEnvironment):\n"
        "    def reset(self, seed):\n"
        "        raise RuntimeError('no licence server')\n"
        "def make():\n"
        "    return Broken(lambda cue, action: 1.0)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    plan = poc(tasks=["broken:make"])
    with pytest.raises(RecordError) as error:
        check_study(plan.study)
    assert (
        "broken:make fails at reset, before anything is trained: RuntimeError: no licence"
        in str(error.value)
    )
    engine = Engine(TRUTH)
    with pytest.raises(RecordError, match="no licence server"):
        carry_out(plan, engine)
    assert engine.seen == {}


def test_an_arm_that_is_no_worse_is_preferred_for_its_size(carry_out, tmp_path):
    same = dict.fromkeys(TRUTH, 0.0)
    decision = {"goal": "no_worse", "maximal_regression": 5.0}
    found = carry_out(poc(decision=decision), Engine(same))
    results = read_study(Path(tmp_path / "out/search-1"))
    control, *others = results.arms
    order = rank(others, control, results.tasks, found["verdict"]["rule"])
    # Nothing was counted in these planted runs, so all keep as much: the return decides.
    assert sorted(order) == sorted(TRUTH.keys() - {"dense"})
    assert found["verdict"]["decision"] == "adopt"


TINY = """
question = "Does a thin network do?"
tasks = ["kanbatsu.envs.probe:action_reward"]
env_steps = 120
control = "dense"
actor = { network = "mlp", width = 8, blocks = 1 }
critic = { network = "mlp", width = 8, blocks = 1 }
train = { warmup_interactions = 10, batch_size = 4, evaluation_episodes = 1, replay_capacity = 999 }
search = { sparsities = [0.25, 0.5], seeds = 1 }
confirm = { seeds = 3 }
budget = { hours = 1, workers = 2 }
decision = { seeds = 3 }
[arm.dense]
"""


@pytest.mark.slow
def test_real_runs_that_are_stopped_in_every_stage_end_alike(tmp_path):
    """Ctrl-C in the pilot, the search and the confirmation of one plan; another is left be."""
    (tmp_path / "tiny.toml").write_text(TINY)

    def begin(out):
        words = [sys.executable, "-m", "kanbatsu.cli", "poc", "run", "tiny.toml", "--out", out]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(words, cwd=tmp_path, **pipes)

    for stage in ("pilot", "search-1", "confirm"):
        process = begin("stopped")
        while not list((tmp_path / "stopped" / stage / "runs").glob("*/metrics.jsonl")):
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        printed, _ = process.communicate(timeout=60.0)
        assert process.returncode == 130, printed
        assert not (tmp_path / "stopped/verdict.json").exists()
    for out in ("stopped", "whole"):
        process = begin(out)
        printed, _ = process.communicate(timeout=600.0)
        assert process.returncode == 0, printed
        assert "verdict.json" in printed
    for name in ("verdict.json", "search-1/summary.json", "confirm/summary.json"):
        assert (tmp_path / "stopped" / name).read_bytes() == (
            tmp_path / "whole" / name
        ).read_bytes()
