"""The examples run as a user runs them, and what they print is what they promise."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kanbatsu.files.store import StudyFolder

EXAMPLES = Path(__file__).parents[1] / "examples"
NUMBER = r"(-?[\d,]+(?:\.\d+)?(?:e-?\d+)?)"


def run(folder: Path, *words: str) -> str:
    """Run Python in a folder; any warning is an error, as in every other test."""
    done = subprocess.run(
        [sys.executable, "-W", "error", *words], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def numbers(pattern: str, text: str) -> list[float]:
    """Return the numbers that stand where the pattern has N."""
    found = re.search(pattern.replace("N", NUMBER), text)
    assert found, f"{pattern!r} is not in:\n{text}"
    return [float(number.replace(",", "")) for number in found.groups()]


def test_every_example_is_tested():
    # Those of other libraries are tested beside what they show: tests/torch, tests/integrations.
    assert sorted(path.name for path in EXAMPLES.iterdir() if path.is_file()) == [
        "01_prune_equinox.py",
        "02_masks_with_optax.py",
        "03_train_one_run.py",
        "04_own_environment.py",
        "04_own_environment.toml",
        "05_sb3_sac.py",
        "06_cleanrl_style_sac.py",
        "07_deploy_torch_policy.py",
        "08_flax_linen.py",
        "09_sbx.py",
        "10_robotics.toml",
        "11_process_control.py",
        "11_process_control.toml",
        "12_purejaxrl_style.py",
        "rollout_inventory.py",
        "rollout_plant.py",
        "rollout_steps.py",
        "rollout_way.py",
        "sb3_verdict.py",
        "sb3_verdict.toml",
    ]


@pytest.mark.parametrize(
    ("example", "kept", "total"),
    [("01_prune_equinox.py", 3315, 33152), ("02_masks_with_optax.py", 144, 576)],
)
def test_a_pruned_model_learns_and_stays_pruned(tmp_path, example, kept, total):
    printed = run(tmp_path, str(EXAMPLES / example))
    assert numbers(r"\nall +N +N", printed) == [kept, total]
    before, after = numbers("loss: N -> N", printed)
    assert after < 0.1 * before
    assert numbers("largest pruned weight: N", printed) == [0.0]
    if example.startswith("01"):
        nonzero, size = numbers("non-zero weights: N of N", printed)
        assert numbers(r"layers/1/weight +\(128, 128\) +N +N", printed) == [nonzero, size]
    else:
        assert numbers("largest Adam moment of a pruned weight: N", printed) == [0.0]


def test_a_run_through_the_api_leaves_its_metrics_behind(tmp_path):
    printed = run(tmp_path, str(EXAMPLES / "03_train_one_run.py"), "run")
    kept, total = numbers("critic: N of N weights kept", printed)
    assert kept == round(0.2 * total)
    steps = [int(step) for step in re.findall(r"env steps +(\d+): mean return +-\d", printed)]
    assert steps == [0, 400, 800]
    dormant, rank = numbers("env steps +800: dormant N, srank N", printed)
    assert 0 <= dormant < 1
    assert 1 <= rank <= 64
    assert (tmp_path / "run" / "metrics.jsonl").is_file()


def test_a_study_on_an_environment_of_ones_own(tmp_path):
    words = ["-m", "kanbatsu.cli", "study", "04_own_environment.toml", "--out", str(tmp_path)]
    printed = run(EXAMPLES, *words, "--workers", "2")
    assert re.search(r"sparse +192 of 192 +442 of 4,416", printed)
    folder = StudyFolder(tmp_path)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["missing"] == []
    assert [arm["networks"]["critic"]["kept"] for arm in summary["arms"]] == [4416, 442]
    for arm in folder.read_study()["arms"].values():
        (run_id,) = arm["runs"]["04_own_environment:reach"].values()
        records = folder.run_folder(run_id).metrics()
        rates = [r["success_rate"] for r in records if r["kind"] == "evaluation"]
        assert len(rates) == 3
        assert all(0 <= rate <= 1 for rate in rates)
        assert {r["success"] for r in records if r["kind"] == "episode"} <= {True, False}


@pytest.mark.parametrize("example", ["inventory", pytest.param("plant", marks=pytest.mark.slow)])
def test_the_way_into_service_catches_what_is_injected(tmp_path, example):
    printed = run(tmp_path, str(EXAMPLES / f"rollout_{example}.py"), "--quick")
    assert re.search(r"shadow -> canary: \d+ episodes", printed)
    assert re.search(r"canary -> full: \d+ episodes", printed)
    assert numbers(r"in a sensor .* observation_not_finite +N +last action", printed) == [0]
    assert numbers(r"slow inference .* deadline +N +last action", printed) == [0]
    (actions,) = numbers(r"a sensor reads .* drift: \w+ of .* N +rolled back", printed)
    assert actions > 0
    folder = tmp_path / "out" / f"rollout-{example}"
    stages = [
        json.loads((folder / name / "state.json").read_text())["stage"]
        for name in ("rollout", "fault-0", "fault-1", "fault-2")
    ]
    assert stages == ["full", "full", "rolled_back", "rolled_back"]
