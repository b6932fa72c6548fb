"""Torch layers as a compact policy: the same function, stored small, or a clear refusal."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

import kanbatsu.torch
from kanbatsu.deploy import load
from kanbatsu.torch.deploy import export_policy

OBSERVATIONS = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32)
LOW, HIGH = np.array([-1.0, 0.0]), np.array([1.0, 4.0])


def actor(*end):
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Linear(5, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
    return nn.Sequential(trunk, nn.Linear(64, 2, bias=False), *end)


def storages(folder):
    layers = json.loads((folder / "policy.json").read_text())["layers"]
    return [layer["weight"]["kind"] for layer in layers if layer["kind"] == "linear"]


@pytest.mark.parametrize(
    ("settings", "stored"),
    [
        ({"sparsity": 0.0}, ["dense", "dense", "dense"]),
        ({"sparsity": 0.9}, ["packed", "packed", "dense"]),
        ({"sparsity": 0.9, "pattern": "grouped"}, ["grouped", "grouped", "dense"]),
    ],
)
@pytest.mark.parametrize("end", [(), (nn.Tanh(),)], ids=["mean", "tanh"])
def test_the_same_action_from_the_kept_weights(settings, stored, end, tmp_path):
    module = kanbatsu.torch.prune(actor(*end), **settings)
    export_policy(module, tmp_path, low=LOW, high=HIGH)
    assert storages(tmp_path) == stored
    with torch.no_grad():
        squashed = module(torch.as_tensor(OBSERVATIONS)).numpy()
    squashed = squashed if end else np.tanh(squashed)
    wanted = LOW + (squashed + 1.0) / 2.0 * (HIGH - LOW)
    np.testing.assert_allclose(load(tmp_path)(OBSERVATIONS), wanted, atol=1e-5)


def test_a_module_that_was_unpruned_is_stored_as_small(tmp_path):
    module = kanbatsu.torch.prune(actor(), 0.9)
    export_policy(module, tmp_path / "pruned")
    export_policy(kanbatsu.torch.unprune(module), tmp_path / "unpruned")
    one, other = (tmp_path / name / "policy.safetensors" for name in ("pruned", "unpruned"))
    assert one.read_bytes() == other.read_bytes()


def test_it_runs_without_torch_and_without_jax(tmp_path):
    export_policy(kanbatsu.torch.prune(actor(), 0.9), tmp_path)
    code = (
        "import sys; from kanbatsu.deploy import load; "
        f"load({str(tmp_path)!r})([0.0] * 5); print({{'jax', 'torch'}} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def with_nan():
    module = actor()
    module[1].weight.data[0, 0] = torch.nan
    return module


@pytest.mark.parametrize(
    ("module", "settings", "message"),
    [
        (nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8)), {}, "it holds LayerNorm where nn.Linear"),
        (nn.Sequential(nn.ReLU(), nn.Linear(5, 2)), {}, "it holds ReLU where nn.Linear"),
        (nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 2)), {}, "it holds Tanh"),
        (nn.Sequential(nn.Tanh()), {}, "it has no linear layer"),
        (actor(), {"low": [-1.0] * 3}, "low and high must be one number, or 2 each"),
        (actor(), {"low": 2.0}, "low bound that is not below the high one"),
        (with_nan(), {}, "numbers that are not finite"),
        (nn.Sequential(nn.Linear(5, 8), nn.Linear(9, 2)), {}, "takes 9 features and is given 8"),
    ],
)
def test_what_cannot_be_exported_is_refused(module, settings, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        export_policy(module, tmp_path / "policy", **settings)
    assert not (tmp_path / "policy").exists()
