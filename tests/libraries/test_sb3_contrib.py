"""The algorithms of sb3-contrib: the same line, the right weights, their own save and load."""

import copy

import pytest
import torch

import kanbatsu.torch
from kanbatsu.integrations.sb3 import ProbeCallback, export_policy, prune_policy

sb3_contrib = pytest.importorskip("sb3_contrib", reason="sb3-contrib: run `make libraries`")

OFF_POLICY = {"learning_starts": 10, "buffer_size": 200, "batch_size": 8}
ALGORITHMS = {
    "TQC": ("MlpPolicy", "Pendulum-v1", OFF_POLICY),
    "CrossQ": ("MlpPolicy", "Pendulum-v1", OFF_POLICY),
    "QRDQN": ("MlpPolicy", "CartPole-v1", OFF_POLICY),
    "TRPO": ("MlpPolicy", "Pendulum-v1", {"n_steps": 16, "batch_size": 8}),
    "RecurrentPPO": ("MlpLstmPolicy", "Pendulum-v1", {"n_steps": 16, "batch_size": 8}),
    "MaskablePPO": ("MlpPolicy", "CartPole-v1", {"n_steps": 16, "batch_size": 8}),
    "ARS": ("MlpPolicy", "Pendulum-v1", {"n_delta": 2}),
}
PARTS = {"QRDQN": {"critic": 0.8}, "ARS": {"actor": 0.5}}
TARGETS = {"TQC": "critic", "QRDQN": "quantile_net"}


def make(name):
    policy, env, settings = ALGORITHMS[name]
    if name == "MaskablePPO":
        from gymnasium import make as make_env
        from sb3_contrib.common.wrappers import ActionMasker

        env = ActionMasker(make_env(env), lambda _: [True, True])
    kwargs = {"net_arch": [16, 16]} | ({"lstm_hidden_size": 16} if "Lstm" in policy else {})
    algorithm = getattr(sb3_contrib, name)
    return algorithm(policy, env, policy_kwargs=kwargs, seed=0, device="cpu", **settings)


def equal(one, other):
    one, other = one.state_dict(), other.state_dict()
    return list(one) == list(other) and all(torch.equal(one[key], other[key]) for key in one)


def assert_zeros(policy):
    for path, mask in kanbatsu.torch.masks(policy).items():
        layer = policy.get_submodule(path.rpartition(".")[0])
        assert not layer.weight[~mask].any()
        assert layer.weight[mask].any()


@pytest.mark.parametrize("name", ALGORITHMS)
def test_it_is_pruned_trains_and_is_loaded_in_its_own_way(name, tmp_path):
    model = prune_policy(make(name), **PARTS.get(name, {"actor": 0.5, "critic": 0.8}))
    before = copy.deepcopy(model.policy)
    masks = kanbatsu.torch.masks(model.policy)
    assert masks
    if name in TARGETS:
        online, target = (getattr(model.policy, TARGETS[name] + end) for end in ("", "_target"))
        assert equal(online, target)
        assert kanbatsu.torch.masks(online).keys() == kanbatsu.torch.masks(target).keys()
    model.learn(32)
    assert not equal(before, model.policy)
    assert_zeros(model.policy)
    model.save(tmp_path / "model")
    loaded = type(model).load(tmp_path / "model", device="cpu")
    assert equal(loaded.policy, model.policy)
    assert kanbatsu.torch.masks(loaded.policy).keys() == masks.keys()
    loaded.set_env(make(name).get_env())
    loaded.learn(16, reset_num_timesteps=False)
    assert_zeros(loaded.policy)
    for path, mask in kanbatsu.torch.masks(loaded.policy).items():
        assert torch.equal(mask, masks[path])


@pytest.mark.parametrize(
    ("name", "part", "weights"),
    [
        # By hand: Pendulum has 3 observations and 1 action, CartPole 4 and 2.
        ("TQC", "actor", 3 * 16 + 16 * 16 + 16 + 16),
        ("CrossQ", "actor", 3 * 16 + 16 * 16 + 16 + 16),
        ("TRPO", "action_net", 16),
        ("ARS", "action_net", 3 * 16 + 16 * 16 + 16),
    ],
)
def test_totals_are_those_of_the_layers(name, part, weights):
    model = make(name)
    assert kanbatsu.torch.count(getattr(model.policy, part)).total == weights
    prune_policy(model, actor=0.5)
    if part != "action_net" or name == "ARS":
        kept = kanbatsu.torch.count(getattr(model.policy, part)).kept
        assert kept == round(0.5 * weights)


@pytest.mark.parametrize(
    ("name", "shares", "message"),
    [
        ("QRDQN", {"actor": 0.5}, "this QRDQN has no actor to prune, only critic"),
        ("ARS", {"critic": 0.5}, "this ARS has no critic to prune, only actor"),
        ("TQC", {"critic": 1.0}, r"must lie in \[0, 1\)"),
    ],
)
def test_wrong_input_changes_nothing(name, shares, message):
    model = make(name)
    before = copy.deepcopy(model.policy)
    with pytest.raises(ValueError, match=message):
        prune_policy(model, **shares)
    assert equal(before, model.policy)


def test_its_losses_are_not_known_to_the_probes():
    with pytest.raises(ValueError, match="the losses of TQC are not known here"):
        make("TQC").learn(8, callback=ProbeCallback())


EXPORTED = {
    "TQC": {"actor": 0.5},
    "CrossQ": {"actor": 0.5},
    "QRDQN": {"critic": 0.3},
    "TRPO": {"actor": 0.5},
    "ARS": {"actor": 0.5},
}


@pytest.mark.parametrize("name", EXPORTED)
def test_a_trained_policy_is_exported(name, tmp_path, assert_exported):
    model = prune_policy(make(name), **EXPORTED[name])
    model.learn(24)
    export_policy(model, tmp_path, c=True)
    size = model.observation_space.shape
    observations = 5 * torch.randn(50, *size)
    wanted, _ = model.predict(observations.numpy(), deterministic=True)
    assert_exported(tmp_path, observations, wanted, None)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("RecurrentPPO", "it remembers, and a policy of the small runtime holds no state"),
        ("MaskablePPO", "its actions are drawn from a MaskableCategoricalDistribution"),
    ],
)
def test_what_cannot_be_exported_is_refused(name, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        export_policy(make(name), tmp_path / "policy")
    assert not (tmp_path / "policy").exists()
