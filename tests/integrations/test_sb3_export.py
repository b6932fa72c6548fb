"""A model's greedy policy as files: the same action as `predict`, the kept weights only."""

import json

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch import nn

from kanbatsu.deploy import load
from kanbatsu.integrations.sb3 import export_policy, prune_policy

OBSERVATIONS = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)


def make(algorithm, **settings):
    kwargs = {"net_arch": [64, 64]}
    return algorithm(
        "MlpPolicy", "Pendulum-v1", seed=0, device="cpu", policy_kwargs=kwargs, **settings
    )


@pytest.mark.parametrize("algorithm", [SAC, TD3, DDPG])
def test_the_action_is_that_of_predict(algorithm, tmp_path):
    model = prune_policy(make(algorithm), actor=0.9)
    export_policy(model, tmp_path)
    wanted, _ = model.predict(OBSERVATIONS, deterministic=True)
    np.testing.assert_allclose(load(tmp_path)(OBSERVATIONS), wanted, atol=1e-5)
    layers = json.loads((tmp_path / "policy.json").read_text())["layers"]
    assert [layer["low"] for layer in layers if layer["kind"] == "squash"] == [[-2.0]]


class Rooms(gymnasium.Env):
    """An environment with the spaces that a test asks for, and nothing in it."""

    def __init__(self, observations, actions):
        self.observation_space, self.action_space = observations, actions

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), 0.0, False, False, {}


BOX = Box(-np.inf, np.inf, (3,))
PARTS = Dict({"speed": Box(-np.inf, np.inf, (1,)), "angles": Box(-np.inf, np.inf, (2, 1))})


def model_of(algorithm, actions, observations=BOX, normalise=False, **settings):
    env = DummyVecEnv([lambda: Rooms(observations, actions)])
    if normalise:
        env = VecNormalize(env, clip_obs=0.5)
        for statistics in env.obs_rms.values() if isinstance(observations, Dict) else [env.obs_rms]:
            statistics.update(np.random.default_rng(1).normal(1, 2, (9, *statistics.mean.shape)))
    policy = "MultiInputPolicy" if isinstance(observations, Dict) else "MlpPolicy"
    policy = "CnnPolicy" if len(observations.shape or ()) == 3 else policy
    torch = {"net_arch": [32, 32], **settings.pop("policy_kwargs", {})}
    return algorithm(policy, env, seed=0, device="cpu", policy_kwargs=torch, **settings)


WITH_IMAGE = Dict({"eye": Box(0, 255, (36, 36, 1), np.uint8), "speed": Box(-1, 1, (1,))})
WIDE = Box(np.array([-9, -9], np.float32), np.array([0.002, 9], np.float32))
BOUNDED = Box(np.array([-2, 0], np.float32), np.array([2, 10], np.float32))
MODELS = {
    "PPO, Gaussian": lambda: model_of(PPO, WIDE),
    "PPO, ELU": lambda: model_of(PPO, WIDE, policy_kwargs={"activation_fn": nn.ELU}),
    "PPO, gSDE, squashed": lambda: model_of(
        PPO, BOUNDED, use_sde=True, policy_kwargs={"squash_output": True}
    ),
    "SAC, gSDE": lambda: model_of(SAC, BOUNDED, use_sde=True, buffer_size=10),
    "PPO, categorical, normalised": lambda: model_of(PPO, Discrete(4), normalise=True),
    "A2C, choices": lambda: model_of(A2C, MultiDiscrete([3, 2, 4])),
    "DQN": lambda: model_of(DQN, Discrete(5), buffer_size=10),
    "TD3, normalised": lambda: model_of(TD3, BOUNDED, normalise=True, buffer_size=10),
    "A2C, dictionary": lambda: model_of(A2C, WIDE, PARTS, normalise=True),
}


def flat(observations):
    return {"speed": observations[:, 2:], "angles": observations[:, :2, None]}


@pytest.mark.parametrize("name", MODELS)
def test_every_kind_acts_as_predict_does(name, tmp_path):
    model = MODELS[name]()
    export_policy(model, tmp_path)
    loaded = load(tmp_path)
    given = ours = 9 * OBSERVATIONS  # far enough apart that choices differ
    if "dictionary" in name:
        given = flat(ours)
        np.testing.assert_array_equal(loaded(given), loaded(ours))
        names = loaded.contract["observation"]["names"]
        assert names == ["angles/0", "angles/1", "speed"]  # Gymnasium sorts them
        assert loaded(PARTS.sample()).shape == (2,)
    normaliser = model.get_vec_normalize_env()
    if normaliser is not None:
        given = normaliser.normalize_obs(given)
    wanted, _ = model.predict(given, deterministic=True)
    np.testing.assert_allclose(loaded(ours), wanted, atol=1e-5)
    assert np.ptp(wanted, axis=0).max() > 0
    assert loaded(ours).dtype == wanted.dtype
    golden = loaded.contract["golden"]
    assert golden["parity_error"] < 1e-5
    assert golden["onnx_parity_error"] < 1e-5
    assert golden["drawn_from"] == ("standard Gaussian" if normaliser is None else "normaliser")


PIXELS = Box(0, 255, (36, 40, 2), np.uint8)
BRIGHT = Box(0, 1, (2, 36, 40), np.float32)
IMAGES = {
    "PPO": lambda: prune_policy(
        model_of(PPO, Discrete(4), PIXELS, policy_kwargs={"features_extractor_kwargs": NARROW}),
        features=0.9,
    ),
    "SAC": lambda: model_of(SAC, BOUNDED, PIXELS, buffer_size=10),
    "DQN, floats": lambda: model_of(
        DQN, Discrete(3), BRIGHT, buffer_size=10,
        policy_kwargs={"normalize_images": False, "features_extractor_kwargs": FLOATS},
    ),
}  # fmt: skip
NARROW = {"features_dim": 32}
FLOATS = NARROW | {"normalized_image": True}


@pytest.mark.parametrize("name", IMAGES)
def test_images_pass_the_convolutions(name, tmp_path):
    model = IMAGES[name]()
    export_policy(model, tmp_path, c=name == "PPO")
    loaded = load(tmp_path)
    observations = np.stack([model.observation_space.sample() for _ in range(5)])
    wanted, _ = model.predict(observations, deterministic=True)
    np.testing.assert_allclose(loaded(observations), wanted, atol=1e-5)
    last = np.moveaxis(observations, 1, -1)  # as the environment gives them
    np.testing.assert_allclose(loaded(last), wanted, atol=1e-5)
    np.testing.assert_allclose(loaded(last[0]), wanted[0], atol=1e-5)
    contract = loaded.contract
    dtype = "float32" if "floats" in name else "uint8"
    assert contract["observation"]["shape"] == [2, 36, 40]
    assert contract["observation"]["dtype"] == dtype
    golden = contract["golden"]
    assert len(golden["observations"]) == 4
    assert max(golden[f"{form}parity_error"] or 0.0 for form in ("", "onnx_", "c_")) < 1e-5
    assert (golden["c_parity_error"] is None) == (name != "PPO")


def test_a_normaliser_that_was_saved_is_named(tmp_path):
    model = MODELS["TD3, normalised"]()
    normaliser = model.get_vec_normalize_env()
    model.env = model._vec_normalize_env = None  # as of a model that was loaded
    export_policy(model, tmp_path / "with", normaliser=normaliser)
    export_policy(model, tmp_path / "without")
    contract = load(tmp_path / "with").contract
    np.testing.assert_allclose(contract["normaliser"]["mean"], normaliser.obs_rms.mean, rtol=1e-6)
    assert contract["normaliser"]["observations_seen"] == pytest.approx(9, abs=0.01)
    assert load(tmp_path / "without").contract["normaliser"]["observations_seen"] is None


def test_what_a_replay_holds_is_the_training_data(tmp_path):
    model = make(SAC, buffer_size=50, learning_starts=100)
    model.learn(20)
    export_policy(model, tmp_path)
    contract = load(tmp_path).contract
    data = contract["training_data"]
    assert (data["source"], data["count"]) == ("replay", 20)
    stored = model.replay_buffer.observations[:20, 0]
    np.testing.assert_allclose(data["mean"], stored.mean(axis=0), rtol=1e-5)
    assert contract["control_period_seconds"] == 0.05


def test_tqc_of_sb3_contrib(tmp_path):
    contrib = pytest.importorskip("sb3_contrib", reason="sb3-contrib is not installed")
    model = model_of(contrib.TQC, BOUNDED, buffer_size=10)
    export_policy(model, tmp_path)
    wanted, _ = model.predict(OBSERVATIONS, deterministic=True)
    np.testing.assert_allclose(load(tmp_path)(OBSERVATIONS), wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: model_of(PPO, MultiBinary(3)), "its actions are drawn from a Bernoulli"),
        (lambda: model_of(PPO, WIDE, Discrete(4)), "the observation is Discrete.4.: a policy for"),
        (lambda: model_of(PPO, WIDE, policy_kwargs={"activation_fn": nn.PReLU}), "it holds PReLU"),
        (lambda: model_of(PPO, WIDE, WITH_IMAGE), "'eye' is an image, and one in a dictionary"),
    ],
)
def test_what_cannot_be_exported_is_refused(model, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        export_policy(model(), tmp_path / "policy")
    assert not (tmp_path / "policy").exists()
