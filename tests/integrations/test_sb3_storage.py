"""prune_policy with kept values alone: it learns what dense parameters do, small in every part."""

import copy

import pytest
import torch
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.utils import set_random_seed

import kanbatsu.torch
from kanbatsu.integrations.sb3 import ProbeCallback, prune_policy

SETTINGS = {"learning_starts": 10, "buffer_size": 100, "batch_size": 8}


def make(algorithm, storage, pattern="grouped", **settings):
    env = "CartPole-v1" if algorithm is DQN else "Pendulum-v1"
    more = {"n_steps": 16, "n_epochs": 2, "batch_size": 8} if algorithm is PPO else SETTINGS
    kwargs = {"net_arch": [32, 32]}
    model = algorithm("MlpPolicy", env, seed=0, device="cpu", policy_kwargs=kwargs, **more)
    how = {"storage": storage, "pattern": pattern, "group_size": 8, "compute": "packed"}
    return prune_policy(model, critic=0.8, **how, **settings)


def dense(model):
    return kanbatsu.torch.dense_state_dict(model.policy.state_dict(), with_masks=True)


@pytest.mark.parametrize(
    ("algorithm", "pattern"),
    [(SAC, "element"), (SAC, "grouped"), (DQN, "grouped"), (PPO, "grouped")],
)
def test_it_learns_what_dense_parameters_do(algorithm, pattern, tmp_path):
    model, reference = (make(algorithm, storage, pattern) for storage in ("kept", "dense"))
    for each in (model, reference):
        set_random_seed(1)
        each.learn(24)
    expected = reference.policy.state_dict()
    found = dense(model)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-4)

    model.save(tmp_path / "model")
    loaded = algorithm.load(tmp_path / "model", device="cpu")
    assert loaded.policy_class.storage == "kept"
    for name in ("replay_buffer", "rollout_buffer"):
        if hasattr(model, name):
            setattr(loaded, name, copy.deepcopy(getattr(model, name)))
    loaded.set_logger(model.logger)
    for each in (model, loaded):
        set_random_seed(2)
        each.train() if algorithm is PPO else each.train(3, 8)
    one, other = model.policy.state_dict(), loaded.policy.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_moments_and_targets_are_small_and_probes_see_the_network():
    model = make(SAC, "kept", "element", actor=0.8)
    callback = ProbeCallback(every=20, batch=16)
    model.learn(40, callback=callback)
    assert callback.latest["critic"]["weight_norm"] > 0
    paths = kanbatsu.torch.masks(model.critic)
    assert paths
    for path, mask in paths.items():
        values = model.critic.get_parameter(path.replace("weight", "weight_kept"))
        target = model.critic_target.get_parameter(path.replace("weight", "weight_kept"))
        moments = model.critic.optimizer.state[values]
        sizes = {values.numel(), target.numel(), values.grad.numel(), moments["exp_avg"].numel()}
        assert sizes == {int(mask.sum())}
    with pytest.warns(UserWarning, match="nothing was changed"):
        prune_policy(model, actor=0.8, critic=0.8, storage="kept")
    with pytest.raises(ValueError, match="already pruned"):
        prune_policy(model, actor=0.8, critic=0.8, storage="dense")
