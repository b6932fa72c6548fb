"""PyTorch users need no JAX: pruning, training, probes, export and verdicts do without it."""

import json
import os
import subprocess
import sys

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
WHOLE_WAY = """
import numpy, torch
from torch import nn
import kanbatsu.torch
from kanbatsu.deploy import load
from kanbatsu.torch import SimBa, count, prune, probe, prune_like
from kanbatsu.torch.deploy import export_policy

torch.manual_seed(0)
def shape():
    middle = nn.Linear(256, 256)
    return nn.Sequential(nn.Linear(6, 256), nn.ReLU(), middle, nn.ReLU(), nn.Linear(256, 2))


def refused(ask):
    try:
        ask()
    except ModuleNotFoundError as error:
        return str(error)


actor = prune(shape(), 0.9, seed=7, compute="packed")
target = prune_like(shape(), actor)
assert count(target).kept == count(actor).kept
optimizer = torch.optim.Adam(actor.parameters(), fused=True)
x = torch.randn(64, 6)
before = actor[2].weight.detach().clone()
loss = (actor(x) ** 2).mean()
loss.backward()
optimizer.step()
assert not torch.equal(before, actor[2].weight)
assert count(actor).kept == sum(int((actor[i].weight != 0).sum()) for i in (0, 2, 4))
assert probe(actor, x)["dormant_0.1"] >= 0.0
export_policy(actor, sys.argv[1], onnx=False)
with torch.no_grad():
    expected = torch.tanh(actor(x[:1]))[0].numpy()
numpy.testing.assert_allclose(load(sys.argv[1])(x[0].numpy()), expected, atol=1e-5)
prune(SimBa(6, width=16, blocks=1), 0.5)
install = "pip install 'kanbatsu[jax]'"
assert install in refused(SimBa(6, width=16, blocks=1).to_jax)
assert refused(lambda: kanbatsu.prune) == f"kanbatsu.prune needs jax: {install}"
assert not [m for m in sys.modules if m.split(".")[0] == "jax" and sys.modules[m] is not None]
"""
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


def test_a_torch_module_goes_all_the_way_without_jax(tmp_path):
    done = run(WHOLE_WAY, tmp_path / "policy")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "policy" / "contract.json").read_text())


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
