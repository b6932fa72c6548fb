"""tianshou's algorithms: the page's script, the copied critic, saving, loading and refusals."""

import gymnasium
import numpy as np
import pytest
import torch

import kanbatsu.torch
from kanbatsu.deploy import load
from kanbatsu.integrations.tianshou import export_policy, prune_algorithm

pytest.importorskip("tianshou", reason="tianshou: run `make libraries`")
from tianshou.algorithm import DDPG, DQN, PPO, SAC
from tianshou.algorithm.algorithm_base import policy_within_training_step
from tianshou.algorithm.modelfree.ddpg import ContinuousDeterministicPolicy
from tianshou.algorithm.modelfree.dqn import DiscreteQLearningPolicy
from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy
from tianshou.algorithm.modelfree.sac import SACPolicy
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Batch, VectorReplayBuffer
from tianshou.utils.net.common import Net
from tianshou.utils.net.continuous import (
    ContinuousActorDeterministic,
    ContinuousActorProbabilistic,
    ContinuousCritic,
)

pytestmark = pytest.mark.filterwarnings("ignore")

SPACE = gymnasium.spaces.Box(-1.0, 1.0, (2,))
FEW = gymnasium.spaces.Discrete(2)
ADAM = AdamOptimizerFactory(lr=1e-2)


def normal(loc_scale):
    loc, scale = loc_scale
    return torch.distributions.Independent(torch.distributions.Normal(loc, scale), 1)


def make(name, space=SPACE):
    """An algorithm with layers of 16 units, 3 observations and 2 actions."""
    net = {"state_shape": (3,), "hidden_sizes": [16, 16]}
    if name == "DQN":
        policy = DiscreteQLearningPolicy(model=Net(**net, action_shape=2), action_space=FEW)
        return DQN(policy=policy, optim=ADAM, target_update_freq=5)
    actor = ContinuousActorProbabilistic(
        preprocess_net=Net(**net), action_shape=(2,), unbounded=True, conditioned_sigma=True
    )
    if name == "DDPG":
        actor = ContinuousActorDeterministic(
            preprocess_net=Net(**net), action_shape=(2,), max_action=0.7
        )
        critic = ContinuousCritic(preprocess_net=Net(**net, action_shape=(2,), concat=True))
        policy = ContinuousDeterministicPolicy(actor=actor, action_space=space)
        return DDPG(policy=policy, policy_optim=ADAM, critic=critic, critic_optim=ADAM)
    if name == "PPO":
        critic = ContinuousCritic(preprocess_net=Net(**net))
        policy = ProbabilisticActorPolicy(actor=actor, dist_fn=normal, action_space=space)
        return PPO(policy=policy, critic=critic, optim=ADAM)
    critic = ContinuousCritic(preprocess_net=Net(**net, action_shape=(2,), concat=True))
    policy = SACPolicy(actor=actor, action_space=space)
    return SAC(policy=policy, policy_optim=ADAM, critic=critic, critic_optim=ADAM)


def learn(algorithm, updates):
    """Let it update itself from transitions of a random walk."""
    random = np.random.default_rng(0)
    buffer = VectorReplayBuffer(64, 1)
    discrete = isinstance(algorithm, DQN)
    for step in range(32):
        observation = random.normal(size=(2, 3)).astype(np.float32)
        action = random.integers(2) if discrete else random.uniform(-1, 1, 2).astype(np.float32)
        end = step % 8 == 7
        row = {"obs": observation[0], "act": action, "rew": 1.0, "obs_next": observation[1]}
        row |= {"terminated": end, "truncated": False, "done": end, "info": {}}
        buffer.add(Batch({key: np.array([value]) for key, value in row.items()}), buffer_ids=[0])
    with policy_within_training_step(algorithm.policy):
        for _ in range(updates):
            if isinstance(algorithm, PPO):
                algorithm.update(buffer=buffer, batch_size=16, repeat=1)
            else:
                algorithm.update(buffer=buffer, sample_size=16)


def online(algorithm):
    holders = (algorithm, algorithm.policy)
    found = [getattr(h, n, None) for h in holders for n in ("critic", "critic2", "actor", "model")]
    return [network for network in found if network is not None]


def pairs(algorithm):
    return getattr(algorithm, "_lagged_networks", None)._lagged_network_pairs


def test_the_page(run_page, assert_pruned, same_masks):
    names = run_page("tianshou.md")
    algorithm = names["algorithm"]
    assert load(names["folder"] / "policy").contract["action"]["high"] == [2.0]
    optimizers = [each._optim for each in algorithm._optimizers]
    for network in (algorithm.policy.actor, algorithm.critic, algorithm.critic2):
        assert_pruned(network, *optimizers)
    assert len(pairs(algorithm)) == 2
    for pair in pairs(algorithm):
        assert_pruned(pair.target)
        assert same_masks(pair.source, pair.target)
    assert kanbatsu.torch.count(algorithm.policy.actor).sparsity == 0.5


@pytest.mark.parametrize("name", ["SAC", "PPO", "DQN"])
def test_zeros_stay_and_targets_follow(name, assert_pruned, same_masks, unchanged):
    algorithm = make(name)
    shares = {"critic": 0.8} if name == "DQN" else {"actor": 0.5, "critic": 0.8}
    assert prune_algorithm(algorithm, **shares) is algorithm
    as_before = unchanged(*online(algorithm))
    learn(algorithm, 10)
    assert not as_before()
    for network in online(algorithm):
        assert_pruned(network, *[each._optim for each in algorithm._optimizers])
    if name != "PPO":
        for pair in pairs(algorithm):
            assert_pruned(pair.target)
            assert same_masks(pair.source, pair.target)


def test_the_second_critic_has_masks_of_its_own(same_masks):
    algorithm = prune_algorithm(make("SAC"), actor=0.5, critic=0.8)
    assert not same_masks(algorithm.critic, algorithm.critic2)
    # By hand: 3 observations and 2 actions, 16 and 16 units; the actor has two heads.
    counts = [kanbatsu.torch.count(x) for x in (algorithm.critic, algorithm.critic2)]
    assert [count.total for count in counts] == [5 * 16 + 16 * 16 + 16] * 2
    assert sum(count.kept for count in counts) == round(0.2 * 2 * 352)
    actor = kanbatsu.torch.count(algorithm.policy.actor)
    assert (actor.total, actor.kept) == (3 * 16 + 16 * 16 + 2 * 16 * 2, 184)


def test_a_critic_that_was_pruned_before_shares_its_mask_with_its_copy(same_masks):
    dense = make("SAC")
    critic = kanbatsu.torch.prune(dense.critic, 0.8)
    algorithm = SAC(policy=dense.policy, policy_optim=ADAM, critic=critic, critic_optim=ADAM)
    assert same_masks(algorithm.critic, algorithm.critic2)
    with pytest.raises(ValueError, match="this SAC is already pruned"):
        prune_algorithm(algorithm)


def test_a_saved_algorithm_is_loaded_with_its_masks(tmp_path, assert_pruned, same_masks):
    algorithm = prune_algorithm(make("SAC"), actor=0.5, critic=0.8)
    learn(algorithm, 5)
    torch.save(algorithm.state_dict(), tmp_path / "algorithm.pt")
    fresh = prune_algorithm(make("SAC"), actor=0.5, critic=0.8, seed=1)
    assert not same_masks(fresh.critic, algorithm.critic)
    fresh.load_state_dict(torch.load(tmp_path / "algorithm.pt"))
    learn(fresh, 5)
    for one, other in zip(online(algorithm), online(fresh), strict=True):
        assert same_masks(one, other)
        assert_pruned(other)
    for pair in pairs(fresh):
        assert same_masks(pair.source, pair.target)


def test_the_networks_can_be_probed():
    algorithm = prune_algorithm(make("SAC"))
    inputs = torch.randn(64, 3), torch.randn(64, 2)
    health = kanbatsu.torch.probe(algorithm.critic, *inputs, loss=lambda value: value.mean())
    assert health["srank"] >= 1
    assert health["gradient_norm"] > 0


WIDE = gymnasium.spaces.Box(np.array([-2, 1], np.float32), np.array([2, 7], np.float32))


@pytest.mark.parametrize("name", ["SAC", "PPO", "DDPG", "DQN"])
def test_a_trained_policy_is_exported(name, tmp_path, assert_exported):
    algorithm = prune_algorithm(make(name, WIDE), critic=0.8)
    learn(algorithm, 5)
    policy = algorithm.policy
    export_policy(algorithm, tmp_path, c=True)
    observations = 9 * torch.randn(50, 3)
    algorithm.eval()
    with torch.no_grad():
        if name == "DQN":
            network, kind = policy.model, "choices"
            wanted = network(observations)[0].argmax(dim=-1)
        else:
            network, kind = policy.actor, "continuous"
            mean = network(observations)[0]
            mean = mean[0] if isinstance(mean, tuple) else mean
            unit = torch.tanh(mean) if name == "SAC" else mean.clamp(-1, 1)
            low, high = (torch.as_tensor(end) for end in (WIDE.low, WIDE.high))
            wanted = low + (high - low) * (unit + 1) / 2
    assert_exported(tmp_path, observations, wanted, None)
    contract = load(tmp_path).contract
    assert contract["action"]["kind"] == kind
    if name == "PPO":
        assert contract["action"]["low"] == [-2.0, 1.0]
        assert not policy.deterministic_eval


def test_what_cannot_be_exported_is_refused(tmp_path):
    algorithm = make("DQN")
    algorithm.policy.model.use_dueling = True
    with pytest.raises(ValueError, match="its Net has dueling heads"):
        export_policy(algorithm, tmp_path / "policy")
    with pytest.raises(ValueError, match="this Linear is no algorithm of tianshou"):
        export_policy(torch.nn.Linear(2, 2), tmp_path / "policy")
    assert not (tmp_path / "policy").exists()


@pytest.mark.parametrize(
    ("name", "wanted", "message"),
    [
        ("DQN", {"actor": 0.5}, "this DQN has no actor to prune, only critic"),
        ("SAC", {"critic": 1.0}, r"must lie in \[0, 1\)"),
        ("PPO", {"exclude": "value.*"}, r"actor\.actor\.preprocess\.model\.model\.0\.weight"),
    ],
)
def test_wrong_input_changes_nothing(name, wanted, message, unchanged):
    algorithm = make(name)
    as_before = unchanged(*online(algorithm))
    with pytest.raises(ValueError, match=message):
        prune_algorithm(algorithm, **wanted)
    assert as_before()


def test_an_algorithm_is_pruned_once_before_it_learns(unchanged):
    algorithm = make("SAC")
    learn(algorithm, 1)
    as_before = unchanged(*online(algorithm))
    with pytest.raises(ValueError, match="this SAC has been trained"):
        prune_algorithm(algorithm)
    assert as_before()
    with pytest.raises(ValueError, match="this Linear is no algorithm of tianshou"):
        prune_algorithm(torch.nn.Linear(2, 2))
