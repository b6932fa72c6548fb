"""Trainings of Stable-Baselines3, dense and pruned, from a script as it is up to a verdict."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kanbatsu.files.tables import to_dict
from kanbatsu.report.gather import Asked, gather
from kanbatsu.report.page import write_report
from kanbatsu.study.file import load_study
from kanbatsu.study.rule import DecisionRule

EXAMPLES = Path(__file__).parents[2] / "examples"
RULE = to_dict(DecisionRule(goal="no_worse", measure="mean_relative", maximal_regression=0.9))


def verdict_of(out: Path) -> dict[str, Any]:
    summary = json.loads((out / "summary.json").read_text())
    assert summary["missing"] == []
    found: dict[str, Any] = summary["verdict"]
    kept = found["gains"]["networks"]["policy"]
    assert kept["arm"] == pytest.approx(0.2 * kept["control"], rel=0.01)
    return found


@pytest.mark.slow
def test_a_scripts_logs_become_a_verdict(tmp_path):
    spec = importlib.util.spec_from_file_location("sb3_verdict", EXAMPLES / "sb3_verdict.py")
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    for arm, sparsity in (("dense", 0.0), ("sparse", 0.8)):
        for seed in range(2):
            folder = tmp_path / "logs" / arm / f"seed_{seed}"
            folder.mkdir(parents=True)
            example.train("gym/CartPole-v1", seed, 256, folder, sparsity)
    gather([tmp_path / "logs"], tmp_path / "out", Asked(decision=RULE))
    page = write_report(tmp_path / "out").read_text()
    found = verdict_of(tmp_path / "out")
    assert found["decision"] == "extend"
    assert found["overturned_by"][0] == {"kind": "too_few_seeds", "seeds": 2, "needed": 5}
    assert "gym/CartPole-v1" in page


def test_the_examples_study_is_one():
    study = load_study(EXAMPLES / "sb3_verdict.toml")
    assert [run.arm for run in study.runs()] == 5 * ["dense", "sparse"]


@pytest.mark.slow
def test_the_engine_trains_a_script_to_a_verdict(tmp_path):
    words = ["study", "sb3_verdict.toml", "env_steps=512", "seeds=2", "--out", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "kanbatsu.cli", *words, "--workers", "2"],
        cwd=EXAMPLES,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"finished +(?:dense|sparse)_", done.stdout)) == 4
    assert verdict_of(tmp_path)["decision"] == "extend"
