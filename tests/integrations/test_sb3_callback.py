"""ProbeCallback: the numbers that training makes, logged, and nothing in training moves."""

import io
import math
import warnings

import pytest
import torch
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.callbacks import CallbackList
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import HumanOutputFormat, KVWriter, Logger
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecNormalize

from kanbatsu.integrations.sb3 import ProbeCallback, prune_policy
from kanbatsu.integrations.sb3.health import MEASURES, health
from kanbatsu.torch import masks

NAMES = {"dormant_0.1", "dormant_0.025", "srank", "gradient_norm", "weight_norm", "feature_norm"}


class Recorder(KVWriter):
    """Keeps what is logged: env steps, values, and where they are not written."""

    def __init__(self):
        self.lines = []

    def write(self, key_values, key_excluded, step=0):
        if "probes/critic/srank" in key_values:
            self.lines.append((step, dict(key_values), dict(key_excluded)))

    def of(self, model):
        # The table refuses names that it would cut to the same letters.
        model.set_logger(Logger(None, [self, HumanOutputFormat(io.StringIO())]))
        return self


def make(algorithm, **settings):
    env = "CartPole-v1" if algorithm is DQN else "Pendulum-v1"
    if algorithm is A2C:
        settings = {"n_steps": 16} | settings
    elif algorithm is PPO:
        settings = {"n_steps": 16, "n_epochs": 1, "batch_size": 16} | settings
    else:
        settings = {"learning_starts": 20, "buffer_size": 200, "batch_size": 16} | settings
    kwargs = {"net_arch": [16, 16]}
    return algorithm("MlpPolicy", env, seed=0, device="cpu", policy_kwargs=kwargs, **settings)


@pytest.mark.parametrize("algorithm", [SAC, PPO, DQN])
def test_training_does_not_notice(algorithm):
    callback = ProbeCallback(every=16, batch=16, dormant_warning=1.0)
    alone = prune_policy(make(algorithm)).learn(64)
    watched = prune_policy(make(algorithm))
    recorder = Recorder().of(watched)
    watched.learn(64, callback=callback)
    mine, theirs = alone.policy.state_dict(), watched.policy.state_dict()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)

    # An algorithm with a replay learns, and is measured, after 20 env steps; DQN every four.
    first = {PPO: 16, DQN: 24}.get(algorithm, 21)
    assert [step for step, _, _ in recorder.lines] == [first, 32, 48, 64]
    _, logged, excluded = recorder.lines[-1]
    networks = {"critic"} if algorithm is DQN else {"actor", "critic"}
    assert set(callback.latest) == networks
    for network in networks:
        found = callback.latest[network]
        assert {name for name in found if "/" not in name} == NAMES
        for name, value in found.items():
            assert math.isfinite(value)
            assert logged[f"probes/{network}/{name}"] == value
            assert excluded[f"probes/{network}/{name}"] == (("stdout",) if "/" in name else ("",))


@pytest.mark.parametrize("algorithm", [SAC, TD3, DDPG, PPO, A2C, DQN])
def test_gradients_are_those_that_the_optimizer_is_given(algorithm, monkeypatch):
    settings = {PPO: {"learning_rate": 0.0}, A2C: {"learning_rate": 0.0}, SAC: {"ent_coef": 0.2}}
    model = prune_policy(make(algorithm, **settings.get(algorithm, {}))).learn(64)
    policy, norms = model.policy, {}

    # The same batch, no noise and no clipping, for the probe and for the algorithm's own update.
    model.target_policy_noise, model.policy_delay, model.max_grad_norm = 0.0, 1, math.inf
    monkeypatch.setattr(
        "torch.distributions.normal._standard_normal",
        lambda shape, dtype, device: torch.zeros(shape, dtype=dtype, device=device),
    )
    if algorithm in (PPO, A2C):
        batch = next(model.rollout_buffer.get(16))
        shared, hidden = policy, policy.mlp_extractor
        actor = [*hidden.policy_net.parameters(), *policy.action_net.parameters(), policy.log_std]
        critic = [*hidden.value_net.parameters(), *policy.value_net.parameters()]
    else:
        batch = model.replay_buffer.sample(16)
        monkeypatch.setattr(model.replay_buffer, "sample", lambda *_, **__: batch)
        shared = policy if algorithm is DQN else None
        actor = [] if algorithm is DQN else list(policy.actor.parameters())
        critic = list((policy.q_net if algorithm is DQN else policy.critic.qf0).parameters())
    found = health(model, batch)

    def record(**networks):
        for name, parameters in networks.items():
            squares = [(x.grad**2).sum() for x in parameters]
            norms[name] = float(torch.stack(squares).sum().sqrt()) if squares else None

    if shared is not None:
        monkeypatch.setattr(shared.optimizer, "step", lambda: record(actor=actor, critic=critic))
    else:
        monkeypatch.setattr(policy.actor.optimizer, "step", lambda: record(actor=actor))
        monkeypatch.setattr(policy.critic.optimizer, "step", lambda: record(critic=critic))
    model.train() if algorithm in (PPO, A2C) else model.train(1, 16)
    for name, of_network in found.items():
        assert of_network["gradient_norm"] == pytest.approx(norms[name], rel=1e-4)
        assert norms[name] > 1e-4


def test_it_warns_once_for_each_network():
    model = make(SAC)
    with torch.no_grad():
        for bias in (model.actor.latent_pi[0].bias, model.critic.qf0[0].bias):
            bias[:12] = -1000.0  # of 32 units, these never fire
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.learn(80, callback=ProbeCallback(every=20, batch=16, dormant_warning=0.3))
    messages = sorted(str(each.message) for each in caught)
    assert len(messages) == 2
    for message, network in zip(messages, ("actor", "critic"), strict=False):
        assert f"of the {network}'s units are dormant after 21 env steps" in message


def test_it_can_be_one_of_several_and_goes_on_where_it_was():
    model = make(DQN)
    recorder = Recorder().of(model)
    for _ in range(2):
        callback = CallbackList([ProbeCallback(every=40, batch=16, dormant_warning=1.0)])
        model.learn(60, callback=callback, reset_num_timesteps=False)
    assert [step for step, _, _ in recorder.lines] == [40, 80, 120]


def test_several_normalised_environments_and_gsde(tmp_path):
    env = VecNormalize(make_vec_env("Pendulum-v1", 2, seed=0))
    settings = {"learning_starts": 20, "batch_size": 16, "device": "cpu", "seed": 0}
    kwargs = {"net_arch": [16, 16]}
    model = prune_policy(SAC("MlpPolicy", env, use_sde=True, policy_kwargs=kwargs, **settings))
    callback = ProbeCallback(every=60, batch=16, dormant_warning=1.0)
    model.learn(60, callback=callback)
    for network in ("actor", "critic"):
        assert {name for name in callback.latest[network] if "/" not in name} == NAMES
    model.save(tmp_path / "model")
    loaded = SAC.load(tmp_path / "model")
    for network in (model.policy, loaded.policy):
        for path, mask in masks(network).items():
            assert not network.get_parameter(path)[~mask].any()
    assert masks(loaded.policy).keys() == masks(model.policy).keys()


class Bandit(OnPolicyAlgorithm):
    """An algorithm that nobody here knows."""


def test_what_it_cannot_watch_is_refused_before_it_learns(monkeypatch):
    model = A2C("MlpPolicy", "Pendulum-v1", policy_kwargs={"net_arch": [4]}, device="cpu")
    monkeypatch.delitem(MEASURES, "A2C")
    with pytest.raises(ValueError, match="the losses of A2C are not known here, only those of SAC"):
        model.learn(8, callback=ProbeCallback())
    model.__class__ = Bandit
    with pytest.raises(ValueError, match=r"Bandit is none of stable_baselines3's SAC, TD3, PPO"):
        model.learn(8, callback=ProbeCallback())
    assert model.num_timesteps == 0
    with pytest.raises(ValueError, match="every and batch must be at least 1: got 0"):
        ProbeCallback(every=0)
    with pytest.raises(ValueError, match=r"dormant_warning is a share, in \[0, 1\]: got 50.0"):
        ProbeCallback(dormant_warning=50.0)
