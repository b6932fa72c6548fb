"""Torch layers as a compact policy: the same function, stored small, or a clear refusal."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import kanbatsu.torch
from kanbatsu.deploy import load, policy
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


class Branches(nn.Module):
    """Residual branches, one after the other or one inside of the other."""

    def __init__(self, nested=False):
        super().__init__()
        torch.manual_seed(1)
        self.inner, self.outer = nn.Linear(5, 5), nn.Linear(5, 5)
        self.norm, self.head = nn.LayerNorm(5), nn.Linear(5, 2)
        self.nested = nested

    def forward(self, x):
        if self.nested:
            y = self.inner(x)
            return self.head(x + (y + self.outer(y)))
        x = x + functional.elu(self.inner(self.norm(x)), alpha=0.5)
        return self.head(torch.relu(x + self.outer(x)))


class Sine(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 2)

    def forward(self, x):
        return torch.sin(self.layer(x))


ACTIVATIONS = [
    nn.ReLU(), nn.LeakyReLU(0.2), nn.ELU(0.7), nn.GELU(), nn.GELU(approximate="tanh"), nn.SiLU(),
    nn.Tanh(), nn.Sigmoid(), nn.Softplus(), nn.Hardtanh(-0.2, 0.3),
]  # fmt: skip


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
@pytest.mark.parametrize("path", ["kernels", "numpy"])
def test_activations_norms_and_unsquashed_actions(activation, path, tmp_path, monkeypatch):
    if path == "numpy":
        monkeypatch.setattr(policy, "shared_library", lambda: None)
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Linear(5, 24), nn.LayerNorm(24), activation, nn.Dropout(0.5), nn.Linear(24, 2)
    )
    module[0].weight.data *= 4
    export_policy(module, tmp_path, actions="clip", low=-0.3, high=[0.1, np.inf])
    loaded = load(tmp_path)
    with torch.no_grad():
        wanted = module.eval()(torch.as_tensor(OBSERVATIONS)).numpy()
    wanted = np.clip(wanted, -0.3, [0.1, np.inf])
    np.testing.assert_allclose(loaded(OBSERVATIONS), wanted, atol=2e-6)
    np.testing.assert_allclose(loaded(OBSERVATIONS[0]), wanted[0], atol=2e-6)
    assert loaded.high.tolist() == [np.float32(0.1), np.inf]
    assert loaded.contract["action"]["high"] == [pytest.approx(0.1), None]
    assert loaded.contract["golden"]["onnx_parity_error"] < 1e-5


def test_the_largest_output_is_a_choice(tmp_path):
    module = actor()
    export_policy(module, tmp_path, actions="argmax", observations=OBSERVATIONS)
    loaded = load(tmp_path)
    with torch.no_grad():
        wanted = module(torch.as_tensor(OBSERVATIONS)).numpy().argmax(axis=1)
    chosen = loaded(OBSERVATIONS)
    assert chosen.dtype == np.int64
    assert chosen.tolist() == wanted.tolist()
    assert 0 < wanted.sum() < 20
    assert loaded(OBSERVATIONS[0]).shape == ()
    assert loaded.contract["action"] | {"names": None} == {
        "size": 1, "names": None, "units": None, "low": [0.0], "high": [1.0],
        "kind": "choices", "choices": [2], "shape": [], "dtype": "int64",
    }  # fmt: skip
    assert loaded.contract["training_data"]["source"] == "observations"


def test_residual_sums_are_read_from_the_forward(tmp_path):
    module = Branches()
    export_policy(module, tmp_path, actions="clip", low=-9.0, high=9.0)
    with torch.no_grad():
        wanted = module(torch.as_tensor(OBSERVATIONS)).numpy()
    np.testing.assert_allclose(load(tmp_path)(OBSERVATIONS), wanted, atol=1e-5)


def with_nan():
    module = actor()
    module[1].weight.data[0, 0] = torch.nan
    return module


@pytest.mark.parametrize(
    ("module", "settings", "message"),
    [
        (nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8)), {}, "it holds BatchNorm1d. What can"),
        (nn.Sequential(nn.Linear(5, 8), nn.Softplus(2.0)), {}, "it holds Softplus with beta=2"),
        (Branches(nested=True), {}, "a branch begins inside of another"),
        (Sine(), {}, "its forward calls sin"),
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
