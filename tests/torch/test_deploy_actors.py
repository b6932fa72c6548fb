"""Actors of robot learning's libraries as policies: normalisers, clips, choices and images."""

import numpy as np
import pytest
import torch
from torch import nn

import kanbatsu.torch
from kanbatsu.deploy import load
from kanbatsu.torch.deploy import export_policy

OBSERVATIONS = np.random.default_rng(0).normal(3, 2, size=(20, 5)).astype(np.float32)


class Normalisation(nn.Module):
    """The statistics of rsl_rl's `EmpiricalNormalization`, or of skrl's `RunningStandardScaler`."""

    def __init__(self, clip=None):
        super().__init__()
        self.eps, self.clip = 1e-2, clip
        self.register_buffer("mean", torch.arange(5.0).double()[None])
        self.register_buffer("variance", torch.linspace(1, 4, 5)[None])

    def forward(self, x):
        x = (x - self.mean.float()) / (torch.sqrt(self.variance) + self.eps)
        return x if self.clip is None else torch.clamp(x, min=-self.clip, max=self.clip)


class Policy(nn.Module):
    """A model whose forward takes a dictionary and returns the mean and more, as skrl's do."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(5, 32), nn.ELU(), nn.Linear(32, 2))
        self.register_buffer("low", torch.tensor([-0.1, -9.0]))
        self.register_buffer("high", torch.tensor([0.2, 0.2]))
        self.log_std = nn.Parameter(torch.zeros(2))

    def compute(self, inputs, role):
        mean = torch.clamp(self.net(inputs["observations"]), min=self.low, max=self.high)
        return mean, {"log_std": self.log_std}


class Mean(nn.Module):
    """What is exported of such a model."""

    def __init__(self, policy, scaler):
        super().__init__()
        self.policy, self.scaler = policy, scaler

    def forward(self, x):
        return self.policy.compute({"observations": self.scaler(x)}, "policy")[0]


def mlp(*end):
    return nn.Sequential(nn.Linear(5, 32), nn.ELU(), nn.Linear(32, 2), *end)


@pytest.mark.parametrize("kind", ["rsl_rl", "skrl"])
def test_a_normaliser_in_the_forward_becomes_that_of_the_policy(kind, tmp_path):
    torch.manual_seed(0)
    if kind == "rsl_rl":
        actor = nn.Sequential(Normalisation(), kanbatsu.torch.prune(mlp(nn.Identity()), 0.5))
    else:
        actor = Mean(kanbatsu.torch.prune(Policy(), 0.5), Normalisation(clip=0.7))
    export_policy(actor, tmp_path, actions="clip", low=-100.0, high=100.0)
    policy = load(tmp_path)
    with torch.no_grad():
        wanted = actor(torch.as_tensor(OBSERVATIONS)).numpy()
    np.testing.assert_allclose(policy(OBSERVATIONS), wanted, atol=1e-5)
    assert np.ptp(wanted, axis=0).min() > 0
    normaliser = policy.contract["normaliser"]
    np.testing.assert_allclose(normaliser["mean"], np.arange(5.0))
    np.testing.assert_allclose(normaliser["scale"], np.sqrt(np.linspace(1, 4, 5)) + 0.01, rtol=1e-6)
    assert policy.contract["golden"]["onnx_parity_error"] < 1e-5


def test_real_actors_of_rsl_rl(tmp_path):
    models = pytest.importorskip("rsl_rl.models", reason="rsl_rl is not installed")
    tensordict = pytest.importorskip("tensordict")
    obs = tensordict.TensorDict({"policy": torch.as_tensor(OBSERVATIONS)}, batch_size=20)
    groups, gaussian = {"actor": ["policy"]}, {"class_name": "GaussianDistribution"}
    actor = models.MLPModel(
        obs, groups, "actor", 2, (32,), obs_normalization=True, distribution_cfg=gaussian
    )
    actor.update_normalization(obs)
    export_policy(nn.Sequential(actor.obs_normalizer, actor.mlp), tmp_path, actions="clip")
    with torch.no_grad():
        wanted = actor(obs).numpy().clip(-1, 1)
    np.testing.assert_allclose(load(tmp_path)(OBSERVATIONS), wanted, atol=1e-5)


def test_several_choices(tmp_path):
    torch.manual_seed(0)
    actor = nn.Sequential(nn.Linear(5, 7), nn.Tanh())
    export_policy(actor, tmp_path, actions="argmax", choices=[3, 4])
    with torch.no_grad():
        scores = actor(torch.as_tensor(OBSERVATIONS)).numpy()
    wanted = np.stack([scores[:, :3].argmax(1), scores[:, 3:].argmax(1)], axis=1)
    np.testing.assert_array_equal(load(tmp_path)(OBSERVATIONS), wanted)
    assert np.ptp(wanted, axis=0).max() > 0


def test_images_pass_pruned_convolutions(tmp_path):
    torch.manual_seed(0)
    actor = nn.Sequential(
        nn.Conv2d(3, 8, 4, stride=2), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.ELU(),
        nn.Flatten(), nn.Linear(6 * 5 * 7, 2), nn.Tanh(),
    )  # fmt: skip
    kanbatsu.torch.prune(actor, 0.5)
    export_policy(actor, tmp_path, image=(3, 16, 20), c=True)
    images = np.random.default_rng(0).integers(0, 256, (6, 3, 16, 20)).astype(np.uint8)
    with torch.no_grad():
        wanted = actor(torch.as_tensor(images / np.float32(255))).numpy()
    policy = load(tmp_path)
    np.testing.assert_allclose(policy(images), wanted, atol=1e-5)
    np.testing.assert_allclose(policy(images.transpose(0, 2, 3, 1)), wanted, atol=1e-5)
    assert (policy.contract["golden"]["c_parity_error"] or 0) < 1e-5


class Late(nn.Module):
    """A forward that lays out what comes in, and scales what comes out of its layers."""

    def __init__(self, over=None):
        super().__init__()
        self.net, self.over = mlp(nn.Tanh()), over
        self.register_buffer("size", torch.tensor([3.0, 0.5]))

    def forward(self, x):
        out = self.net(x.reshape(-1, 5))
        return 1.0 + out * self.size - 0.25 if self.over is None else self.over / out


def test_what_comes_out_may_be_scaled_and_moved(tmp_path):
    torch.manual_seed(0)
    actor = Late()
    export_policy(actor, tmp_path, actions="clip", low=-9.0, high=9.0, c=True)
    with torch.no_grad():
        wanted = actor(torch.as_tensor(OBSERVATIONS)).numpy()
    np.testing.assert_allclose(load(tmp_path)(OBSERVATIONS), wanted, atol=1e-5)
    assert np.ptp(wanted, axis=0).min() > 0


@pytest.mark.parametrize(
    ("module", "settings", "message"),
    [
        (Late(over=2.0), {}, "computes a number over something"),
        (nn.Sequential(nn.Conv2d(3, 8, 3, padding=1)), {"image": (3, 8, 8)}, "or pads, dilates"),
        (nn.Sequential(nn.Conv2d(3, 8, 3)), {"image": (1, 8, 8)}, r"an image of \[1, 8, 8\]"),
        (nn.Sequential(nn.Conv2d(3, 8, 3)), {}, "it holds Conv2d"),
        (nn.Sequential(Normalisation(), nn.Linear(4, 2)), {}, "takes 4 numbers and normalises"),
        (mlp(), {"actions": "argmax", "choices": [3, 4]}, "does not choose among 2 scores"),
    ],
)
def test_what_cannot_be_exported_is_refused(module, settings, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        export_policy(module, tmp_path / "policy", **settings)
    assert not (tmp_path / "policy").exists()
