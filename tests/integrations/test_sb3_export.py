"""A model's greedy policy as files: the same action as `predict`, the kept weights only."""

import json

import gymnasium
import numpy as np
import pytest
from stable_baselines3 import DDPG, PPO, SAC, TD3
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch import nn

from kanbatsu.deploy import load
from kanbatsu.integrations.sb3 import export_policy, prune_policy

OBSERVATIONS = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)


def make(algorithm, env="Pendulum-v1", **settings):
    kwargs = {"net_arch": [64, 64]} | settings
    return algorithm("MlpPolicy", env, seed=0, device="cpu", policy_kwargs=kwargs)


@pytest.mark.parametrize("algorithm", [SAC, TD3, DDPG])
def test_the_action_is_that_of_predict(algorithm, tmp_path):
    model = prune_policy(make(algorithm), actor=0.9)
    export_policy(model, tmp_path)
    wanted, _ = model.predict(OBSERVATIONS, deterministic=True)
    np.testing.assert_allclose(load(tmp_path)(OBSERVATIONS), wanted, atol=1e-5)
    layers = json.loads((tmp_path / "policy.json").read_text())["layers"]
    assert [layer["low"] for layer in layers if layer["kind"] == "squash"] == [[-2.0]]


def normalised():
    return VecNormalize(DummyVecEnv([lambda: gymnasium.make("Pendulum-v1")]))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: make(PPO), "PPO cannot be exported: a policy ends in tanh"),
        (lambda: make(SAC, normalised()), "VecNormalize clips what it normalises"),
        (lambda: make(SAC, activation_fn=nn.ELU), "it holds ELU where nn.Linear"),
    ],
)
def test_what_cannot_be_exported_is_refused(model, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        export_policy(model(), tmp_path / "policy")
    assert not (tmp_path / "policy").exists()
