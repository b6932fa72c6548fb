"""PyTorch users need no JAX: pruning, training, probes, export and verdicts do without it."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import torch
from torch import nn

import kanbatsu.torch
from kanbatsu.sparsity.config import PATTERNS
from kanbatsu.sparsity.prune import make_masks

ROOMS = ("cli", "deploy", "doctor", "integrations.sb3", "report.page", "rollout", "torch.deploy")
BLOCKED = """
import sys

for name in ("jax", "jaxlib", "equinox", "optax", "flax"):
    sys.modules[name] = None
"""
TRY_TORCH = Path(__file__).parents[1] / "release" / "try_torch.py"
SB3 = """
from stable_baselines3 import SAC
from kanbatsu.integrations.sb3 import ProbeCallback, export_policy, prune_policy
from kanbatsu.deploy import load
model = SAC("MlpPolicy", "Pendulum-v1", learning_starts=20, buffer_size=100, batch_size=16)
prune_policy(model, actor=0.8, critic=0.8)
model.learn(24, callback=ProbeCallback(every=2))
export_policy(model, sys.argv[1])
load(sys.argv[1])
"""


def run(program, *arguments):
    return subprocess.run(
        [sys.executable, "-c", BLOCKED + program, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONWARNINGS": "default"},
    )


def test_a_torch_module_goes_all_the_way_without_jax():
    done = run(TRY_TORCH.read_text())
    assert done.returncode == 0, done.stderr
    assert "256" in done.stdout


@pytest.mark.slow
def test_a_model_of_stable_baselines3_goes_all_the_way_without_jax(tmp_path):
    done = run(SB3, tmp_path / "policy")
    assert done.returncode == 0, done.stderr


def test_rooms_that_need_no_jax_import_none():
    done = run("".join(f"import kanbatsu.{room}\n" for room in ROOMS))
    assert done.returncode == 0, done.stderr


def test_a_command_that_needs_jax_names_the_extra():
    program = "from kanbatsu.cli import main\nsys.exit(main(['train', 'gym/Pendulum-v1']))"
    done = run(program)
    assert done.returncode == 2, done.stderr
    assert "kanbatsu train needs" in done.stderr
    assert "pip install 'kanbatsu[jax]'" in done.stderr


def test_a_verdict_on_foreign_runs_needs_no_jax(tmp_path):
    for arm, level in (("dense", 0.0), ("sparse", 50.0)):
        for seed in range(2):
            folder = tmp_path / "logs" / arm / f"seed{seed}"
            folder.mkdir(parents=True)
            rows = "".join(f"{level + seed + i},100,{i + 1.0}\n" for i in range(20))
            (folder / "monitor.csv").write_text(
                '#{"t_start": 1.0, "env_id": "Pendulum-v1"}\nr,l,t\n' + rows
            )
    words = ["report", str(tmp_path / "out"), "--monitor", str(tmp_path / "logs")]
    done = run(f"from kanbatsu.cli import main\nsys.exit(main({words!r}))")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "report.html").exists()


@pytest.mark.parametrize("pattern", PATTERNS)
def test_torch_prunes_as_jax_does(pattern):
    module = nn.Sequential(nn.Linear(24, 64), nn.ReLU(), nn.Linear(64, 32))
    settings = {"distribution": "erk", "pattern": pattern, "group_size": 8}
    kanbatsu.torch.prune(module, 0.75, seed=5, compute="masked", **settings)
    params = [{"kernel": np.ones(shape, np.float32)} for shape in ((24, 64), (64, 32))]
    masks = make_masks(params, 0.75, key=jax.random.key(5), **settings)
    for layer, theirs in zip((module[0], module[2]), masks, strict=True):
        ours = layer.weight_mask.T != 0
        assert torch.equal(ours, torch.from_numpy(np.array(theirs["kernel"])) != 0)
