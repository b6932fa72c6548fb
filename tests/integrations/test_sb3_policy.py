"""prune_policy: the right weights of the right networks, exact zeros, plain save and load."""

import copy
import importlib
import sys

import pytest
import torch
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.envs import FakeImageEnv
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.utils import set_random_seed

import kanbatsu.torch
from kanbatsu.integrations.sb3 import prune_policy

ALGORITHMS = (SAC, TD3, DDPG, PPO, A2C, DQN)
OFF_POLICY = {"learning_starts": 10, "buffer_size": 200}


class Bandit(OnPolicyAlgorithm):
    """An algorithm that nobody here knows."""


def make(algorithm, policy="MlpPolicy", env=None, **settings):
    env = env or ("CartPole-v1" if algorithm is DQN else "Pendulum-v1")
    more = OFF_POLICY | {"batch_size": 8}
    if issubclass(algorithm, OnPolicyAlgorithm):
        more = {"n_steps": 16} | ({"n_epochs": 2, "batch_size": 8} if algorithm is PPO else {})
    settings.setdefault("policy_kwargs", {"net_arch": [16, 16]})
    return algorithm(policy, env, seed=0, device="cpu", **more, **settings)


def pruned(algorithm, compute="auto", **sparsities):
    sparsities = sparsities or ({} if algorithm is DQN else {"actor": 0.5})
    return prune_policy(make(algorithm), critic=0.8, compute=compute, **sparsities)


def equal(one, other):
    one, other = one.state_dict(), other.state_dict()
    assert list(one) == list(other)
    return all(torch.equal(one[name], other[name]) for name in one)


def computes(policy):
    return {layer.compute for layer in policy.modules() if hasattr(layer, "weight_mask")}


def optimizers(model):
    networks = [model.policy] if isinstance(model, PPO | A2C | DQN) else [model.actor, model.critic]
    return [network.optimizer for network in networks]


def assert_exact_zeros(model):
    """Of every network: the pruned weights, and their moments in every optimizer."""
    state = {weight: of for each in optimizers(model) for weight, of in each.state.items()}
    kinds, with_moments = ("exp_avg", "exp_avg_sq"), 0
    if isinstance(model, A2C):  # whose optimizer is RMSprop
        kinds = ("square_avg",)
    for path, mask in kanbatsu.torch.masks(model.policy).items():
        weight = model.policy.get_parameter(path)
        assert not weight[~mask].any()
        assert weight[mask].all()
        for name in kinds if weight in state else ():
            assert not state[weight][name][~mask].any()
            with_moments += bool(state[weight][name][mask].any())
    assert with_moments


@pytest.mark.parametrize(
    ("algorithm", "actor", "critic", "targets"),
    [
        # Counted by hand for 3 (CartPole: 4) observations, 1 action (CartPole: 2) and 16 x 16.
        (SAC, 3 * 16 + 16 * 16 + 16 + 16, 2 * (4 * 16 + 16 * 16 + 16), ["critic"]),
        (TD3, 3 * 16 + 16 * 16 + 16, 2 * (4 * 16 + 16 * 16 + 16), ["actor", "critic"]),
        (DDPG, 3 * 16 + 16 * 16 + 16, 4 * 16 + 16 * 16 + 16, ["actor", "critic"]),
        (PPO, 3 * 16 + 16 * 16 + 16, 3 * 16 + 16 * 16 + 16, []),
        (DQN, 0, 4 * 16 + 16 * 16 + 16 * 2, ["q_net"]),
    ],
)
def test_counts_are_exact_and_targets_equal(algorithm, actor, critic, targets):
    model = pruned(algorithm)
    kept = {"actor": 0, "critic": 0}
    for layer in kanbatsu.torch.count(model.policy).layers:
        name, *rest = layer.path.split(".")
        if name == "q_net" or rest[0] == "value_net" or name == "value_net":
            name = "critic"
        elif rest[0] == "policy_net" or name == "action_net":
            name = "actor"
        kept[name] = kept.get(name, 0) + layer.kept
    assert kept["actor"] == round(0.5 * actor)
    assert kept["critic"] == round((1 - 0.8) * critic)
    for name in targets:
        assert equal(getattr(model.policy, name), getattr(model.policy, f"{name}_target"))


def test_masks_are_those_of_torch_prune():
    model = make(SAC)
    alone = kanbatsu.torch.prune(copy.deepcopy(model.critic), 0.8, seed=3)
    prune_policy(model, actor=0.0, critic=0.8, seed=3)
    assert equal(model.critic, alone)
    assert not kanbatsu.torch.masks(model.actor)


@pytest.mark.parametrize(
    ("algorithm", "compute"),
    [*((algorithm, "masked") for algorithm in ALGORITHMS), (SAC, "packed"), (PPO, "packed")],
)
def test_zeros_stay_and_a_saved_model_goes_on_as_if_never_saved(algorithm, compute, tmp_path):
    model = pruned(algorithm, compute=compute)
    before = copy.deepcopy(model.policy.state_dict())
    model.learn(40)
    assert_exact_zeros(model)
    masks = kanbatsu.torch.masks(before)
    assert masks.keys() == kanbatsu.torch.masks(model.policy).keys()

    model.save(tmp_path / "model")
    loaded = algorithm.load(tmp_path / "model", device="cpu")
    assert loaded.policy_class.policy_class is type(loaded.policy)
    assert equal(loaded.policy, model.policy)
    assert computes(loaded.policy) == computes(model.policy) == {compute}
    # What SB3 does not save, so that nothing but the networks and optimizers can differ.
    for name in ("replay_buffer", "rollout_buffer"):
        if hasattr(model, name):
            setattr(loaded, name, copy.deepcopy(getattr(model, name)))
    loaded.set_logger(model.logger)
    for each in (model, loaded):
        set_random_seed(1)
        each.train() if algorithm in (PPO, A2C) else each.train(3, 8)
    assert equal(loaded.policy, model.policy)
    assert_exact_zeros(loaded)
    assert not equal(loaded.policy, algorithm.load(tmp_path / "model").policy)  # it has learned

    loaded.set_env(make(algorithm).get_env())
    loaded.learn(20, reset_num_timesteps=False)
    assert_exact_zeros(loaded)
    for path, mask in kanbatsu.torch.masks(loaded.policy).items():
        assert torch.equal(mask, masks[path])
    with pytest.raises(ValueError, match="already pruned"):
        prune_policy(loaded)


def test_optimizers_hold_the_same_parameters():
    model = pruned(TD3)
    for network in (model.actor, model.critic):
        (group,) = network.optimizer.param_groups
        assert [id(x) for x in group["params"]] == [id(x) for x in network.parameters()]


def test_a_policy_alone_does_not_take_its_masks_along(tmp_path):
    model = pruned(SAC)
    model.policy.save(tmp_path / "policy")
    with pytest.raises(RuntimeError, match="weight_mask"):
        type(model.policy).load(tmp_path / "policy")


def test_zero_sparsity_changes_nothing():
    model, same = make(SAC), make(SAC)
    assert prune_policy(model, actor=0.0, critic=0.0) is model
    assert equal(model.policy, same.policy)
    assert model.policy_class is same.policy_class


def test_include_and_exclude():
    model = prune_policy(make(SAC), exclude=("actor.latent_pi.0", "critic.qf1.*"))
    paths = set(kanbatsu.torch.masks(model.policy))
    assert "actor.latent_pi.2.weight" in paths
    assert not any("latent_pi.0" in path or "qf1" in path for path in paths)
    model = prune_policy(make(PPO), actor=0.0, include="critic.value_net")
    assert list(kanbatsu.torch.masks(model.policy)) == ["value_net.weight"]


SMALL = {"net_arch": [16], "features_extractor_kwargs": {"features_dim": 16}}


@pytest.mark.parametrize(
    ("algorithm", "settings", "trained"),
    [
        (DQN, {}, {"q_net.features_extractor"}),
        (PPO, {}, {"features_extractor"}),
        (PPO, {"share_features_extractor": False}, {"features_extractor", "vf_features_extractor"}),
        (TD3, {}, {"actor.features_extractor", "critic.features_extractor"}),
        (TD3, {"share_features_extractor": True}, {"actor.features_extractor"}),
        (SAC, {"share_features_extractor": True}, {"actor.features_extractor"}),
    ],
)
def test_images_are_read_by_sparse_extractors_when_asked(algorithm, settings, trained):
    env = FakeImageEnv(screen_height=36, screen_width=36, discrete=algorithm is DQN)
    model = make(algorithm, "CnnPolicy", env, policy_kwargs=SMALL | settings)
    prune_policy(model, features=0.9)
    parts = [model.policy.get_submodule(name) for name in trained]
    counts = [kanbatsu.torch.count(part) for part in parts]
    kept, total = (sum(getattr(each, name) for each in counts) for name in ("kept", "total"))
    assert kept == round((1 - 0.9) * total)
    for target in ("q_net", "actor", "critic"):
        if hasattr(model.policy, f"{target}_target"):
            of_target = model.policy.get_submodule(f"{target}_target")
            assert equal(model.policy.get_submodule(target), of_target)
            assert any("cnn" in path for path in kanbatsu.torch.masks(of_target))
    if algorithm is DQN:
        model.learn(12)
        assert_exact_zeros(model)
        unasked = prune_policy(make(algorithm, "CnnPolicy", env, policy_kwargs=SMALL))
        assert not any("extractor" in path for path in kanbatsu.torch.masks(unasked.policy))


@pytest.mark.parametrize(
    ("algorithm", "settings", "message"),
    [
        (Bandit, {}, r"Bandit is none of stable_baselines3's SAC.* kanbatsu\.torch\.prune takes"),
        (SAC, {"actor": 1.0}, r"sparsity must lie in \[0, 1\): got 1.0"),
        (SAC, {"actor": -0.1}, r"sparsity must lie in \[0, 1\): got -0.1"),
        (SAC, {"critic": 0.9999}, "the highest sparsity that can be met"),
        (DQN, {"actor": 0.8}, "this DQN has no actor to prune, only critic: leave actor=0.8 out"),
        (PPO, {"features": 0.5}, "this PPO has no features to prune, only actor and critic"),
        (SAC, {"exclude": "actor.pi.*"}, "'actor.pi.*' matches no prunable weight; .*actor.mu"),
        (SAC, {"distribution": "er2"}, "unknown distribution 'er2'"),
        (SAC, {"pattern": "rows"}, "unknown pattern 'rows'"),
    ],
)
def test_wrong_input_changes_nothing(algorithm, settings, message):
    model = make(A2C if algorithm is Bandit else algorithm)
    model.__class__ = algorithm
    before, built_by = copy.deepcopy(model.policy), model.policy_class
    with pytest.raises(ValueError, match=message):
        prune_policy(model, **settings)
    assert equal(model.policy, before)
    assert model.policy_class is built_by


def test_a_trained_or_pruned_model_is_refused():
    model = make(SAC).learn(12)
    before = copy.deepcopy(model.policy)
    with pytest.raises(ValueError, match=r"has been trained \(2 updates\): prune it before"):
        prune_policy(model)
    assert equal(model.policy, before)

    model = pruned(SAC)
    before = copy.deepcopy(model.policy)
    with pytest.raises(ValueError, match="this SAC is already pruned"):
        prune_policy(model, critic=0.5)
    assert equal(model.policy, before)


def test_a_missing_extra_is_named(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("kanbatsu.integrations.sb3")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "stable_baselines3", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'kanbatsu\[sb3\]'"):
        importlib.import_module("kanbatsu.integrations.sb3")


def test_what_a_pruned_model_keeps_is_printed_and_counted(capsys):
    model = make(SAC)
    prune_policy(model)
    assert capsys.readouterr().out == ""
    loud = prune_policy(make(SAC, verbose=1))
    table = kanbatsu.torch.count(loud)
    assert str(table) in capsys.readouterr().out
    assert table == kanbatsu.torch.count(loud.policy)
    with pytest.raises(ValueError, match="only a torch module can be counted, and this is a dict"):
        kanbatsu.torch.count({})


@pytest.mark.parametrize("algorithm", [SAC, TD3, DQN])
def test_a_whole_policy_that_is_pruned_has_targets_that_follow(algorithm):
    """As for the algorithms that prune_policy does not know."""
    policy = kanbatsu.torch.prune(make(algorithm).policy, 0.8)
    names = {SAC: ["critic"], TD3: ["actor", "critic"], DQN: ["q_net"]}[algorithm]
    for name in names:
        assert equal(getattr(policy, name), getattr(policy, f"{name}_target"))
