"""SimbaPolicy: SimBa in SB3's algorithms, pruned with one line, trained, saved and loaded."""

import copy

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

import kanbatsu.torch
from kanbatsu.integrations.sb3 import ProbeCallback, SimbaPolicy, prune_policy
from kanbatsu.torch import SimBa

ON_POLICY = (PPO, A2C)


def make(algorithm, env="Pendulum-v1", **settings):
    critic = "vf" if algorithm in ON_POLICY else "qf"
    more = {"learning_starts": 10, "buffer_size": 200, "batch_size": 8}
    if algorithm in ON_POLICY:
        more = {"n_steps": 16} | ({"batch_size": 8} if algorithm is PPO else {})
    arch = {"pi": [16], critic: [24, 24]}
    policy_kwargs = {"net_arch": arch} | settings.pop("policy_kwargs", {})
    more |= {"policy_kwargs": policy_kwargs, "seed": 0, "device": "cpu"}
    return algorithm(SimbaPolicy, env, **more, **settings)


def simbas(policy):
    return {name: part for name, part in policy.named_modules() if isinstance(part, SimBa)}


def equal(one, other):
    one, other = one.state_dict(), other.state_dict()
    return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("algorithm", "networks", "weights"),
    [
        # By hand: 3 observations, 1 action; a block of width h has 8 h^2 weights.
        (SAC, 5, (3 * 16 + 8 * 16**2 + 16 + 16, 2 * (4 * 24 + 2 * 8 * 24**2 + 24))),
        (TD3, 6, (3 * 16 + 8 * 16**2 + 16, 2 * (4 * 24 + 2 * 8 * 24**2 + 24))),
        (DDPG, 4, (3 * 16 + 8 * 16**2 + 16, 4 * 24 + 2 * 8 * 24**2 + 24)),
        (PPO, 2, (3 * 16 + 8 * 16**2 + 16, 3 * 24 + 2 * 8 * 24**2 + 24)),
    ],
)
def test_a_pruned_simba_trains_and_is_saved_in_sb3s_own_way(algorithm, networks, weights, tmp_path):
    model = prune_policy(make(algorithm), actor=0.5, critic=0.8)
    assert len(simbas(model.policy)) == networks
    masks = kanbatsu.torch.masks(model.policy)
    followers = ("critic_target.", "actor_target.")
    kept = sum(int(m.sum()) for path, m in masks.items() if not path.startswith(followers))
    dense = kanbatsu.torch.count(model.policy).total
    assert sum(weights) == dense - sum(
        each.total
        for each in kanbatsu.torch.count(model.policy).layers
        if each.path.startswith(followers)
    )
    in_dense = sum(
        each.kept
        for each in kanbatsu.torch.count(model.policy).layers
        if each.kept == each.total and not each.path.startswith(followers)
    )
    assert kept + in_dense == round(0.5 * weights[0]) + round((1 - 0.8) * weights[1])

    before = copy.deepcopy(model.policy)
    model.learn(24, callback=ProbeCallback(every=16, batch=16, dormant_warning=1.0))
    assert not equal(before, model.policy)
    for path, mask in masks.items():
        weight = model.policy.get_parameter(path)
        assert not weight[~mask].any()
        assert weight[mask].all()
    model.save(tmp_path / "model")
    loaded = algorithm.load(tmp_path / "model", device="cpu")
    assert equal(loaded.policy, model.policy)
    assert kanbatsu.torch.masks(loaded.policy).keys() == masks.keys()
    loaded.set_env(make(algorithm).get_env())
    loaded.learn(8, reset_num_timesteps=False)


@pytest.mark.parametrize("algorithm", [SAC, TD3, PPO])
def test_its_networks_are_ours(algorithm):
    model = make(algorithm)
    for network in simbas(model.policy).values():
        inputs = np.random.default_rng(0).normal(size=(8, network.embed.in_features))
        x = inputs.astype(np.float32)
        ours, _ = network.to_jax()(jnp.asarray(x))
        theirs = network(torch.from_numpy(x)).detach()
        np.testing.assert_allclose(theirs, ours, rtol=1e-5, atol=1e-5)


def test_the_actor_of_sac_is_simbas_gaussian():
    actor = make(SAC).actor
    looks = torch.randn(64, 3)
    with torch.no_grad():
        raw = actor.log_std[0](actor.latent_pi(looks))
        _, log_std, _ = actor.get_action_dist_params(looks)
        torch.testing.assert_close(log_std, -10.0 + 6.0 * (1.0 + raw.tanh()))
        actor.log_std[0].bias.fill_(100.0)
        assert bool((actor.get_action_dist_params(looks)[1] == 2.0).all())


def test_the_papers_sizes_and_optimizer_are_the_defaults():
    policy = SAC(SimbaPolicy, "Pendulum-v1", device="cpu", buffer_size=10).policy
    actor, critic = policy.actor.latent_pi, policy.critic.qf0[0]
    assert (actor.embed.out_features, len(actor.blocks)) == (128, 1)
    assert (critic.embed.out_features, len(critic.blocks)) == (512, 2)
    assert type(policy.actor.optimizer) is torch.optim.AdamW
    assert policy.actor.optimizer.param_groups[0]["weight_decay"] == 1e-2
    adam = {"optimizer_class": torch.optim.Adam}
    optimizer = make(PPO, policy_kwargs=adam).policy.optimizer
    assert type(optimizer) is torch.optim.Adam
    assert optimizer.param_groups[0]["weight_decay"] == 0


def test_observations_are_normalised_by_vec_normalize():
    env = VecNormalize(make_vec_env("Pendulum-v1", 2), norm_reward=False)
    model = prune_policy(make(SAC, env), critic=0.9)
    model.learn(40)
    assert model.get_vec_normalize_env().obs_rms.count > 40


def test_state_dependent_noise_and_discrete_actions():
    prune_policy(make(SAC, use_sde=True)).learn(24)
    prune_policy(make(PPO, "CartPole-v1")).learn(16)
    assert len(simbas(make(A2C).learn(16).policy)) == 2


@pytest.mark.parametrize(
    ("policy_kwargs", "message"),
    [
        ({"net_arch": [64, 32]}, r"one number for each residual block.* got 'pi': \[64, 32\]"),
        ({"net_arch": {"pi": [64]}}, r"got 'qf': \[\]"),
        ({"activation_fn": torch.nn.Tanh}, "the activation of SimBa is ReLU"),
    ],
)
def test_what_is_no_simba_is_refused(policy_kwargs, message):
    with pytest.raises(ValueError, match=message):
        make(SAC, policy_kwargs=policy_kwargs)


def test_an_algorithm_without_simba_does_not_know_the_name():
    with pytest.raises(ValueError, match="Policy SimbaPolicy unknown"):
        DQN(SimbaPolicy, "CartPole-v1")
