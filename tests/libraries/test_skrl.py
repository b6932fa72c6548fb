"""skrl's agents: the page's script, each kind trained for a moment, saved, loaded and refused."""

import gymnasium
import pytest
import torch

import kanbatsu.torch
from kanbatsu.deploy import load
from kanbatsu.integrations.skrl import export_policy, prune_agent

pytest.importorskip("skrl", reason="skrl: run `make libraries`")
from skrl.agents.torch.ddqn import DDQN
from skrl.agents.torch.ppo import PPO
from skrl.agents.torch.sac import SAC
from skrl.agents.torch.td3 import TD3
from skrl.envs.wrappers.torch import wrap_env
from skrl.memories.torch import RandomMemory
from skrl.resources.preprocessors.torch import RunningStandardScaler
from skrl.trainers.torch import SequentialTrainer
from skrl.utils.model_instantiators.torch import (
    deterministic_model,
    gaussian_model,
    shared_model,
)

CRITICS = ("critic_1", "critic_2", "target_critic_1", "target_critic_2")
AGENTS = {
    "SAC": (SAC, {"batch_size": 16}),
    "TD3": (TD3, {"batch_size": 16, "policy_delay": 2}),
    "PPO": (PPO, {"rollouts": 16, "learning_epochs": 2, "mini_batches": 2}),
    "DDQN": (DDQN, {"batch_size": 16, "learning_starts": 0, "update_interval": 1}),
}
PARTS = {"DDQN": {"critic": 0.8}}
OPTIMIZERS = ("optimizer", "policy_optimizer", "critic_optimizer")


def network(*inputs):
    joined = f"concatenate([{', '.join(inputs)}])" if len(inputs) > 1 else inputs[0]
    return [{"name": "net", "input": joined, "layers": [16, 16], "activations": "relu"}]


def make(name, output="tanh(ACTIONS)", **extra):
    """An agent of 16 units a layer, and its environment."""
    agent, settings = AGENTS[name]
    env = wrap_env(gymnasium.make("CartPole-v1" if name == "DDQN" else "Pendulum-v1"))
    spaces = {"observation_space": env.observation_space, "action_space": env.action_space}
    critic = {**spaces, "network": network("OBSERVATIONS", "ACTIONS"), "output": "ONE"}
    actor = {**spaces, "network": network("OBSERVATIONS"), "output": output}
    match name:
        case "SAC":
            models = {"policy": gaussian_model(**actor)}
            models |= {key: deterministic_model(**critic) for key in CRITICS}
        case "TD3":
            keys = ("policy", "target_policy")
            models = {key: deterministic_model(**actor) for key in keys}
            models |= {key: deterministic_model(**critic) for key in CRITICS}
        case "PPO":
            models = {"policy": gaussian_model(**actor)}
            models["value"] = deterministic_model(**{**actor, "output": "ONE"})
        case "DDQN":
            keys = ("q_network", "target_q_network")
            value = {**actor, "output": "ACTIONS"}
            models = {key: deterministic_model(**value) for key in keys}
    for model in models.values():
        model.init_state_dict()
    memory = RandomMemory(memory_size=16 if name == "PPO" else 200, num_envs=1, device="cpu")
    cfg = {**settings, **extra, "experiment": {"write_interval": 0, "checkpoint_interval": 0}}
    return agent(models=models, memory=memory, cfg=cfg, device="cpu", **spaces), env


def learn(agent, env, timesteps):
    cfg = {"timesteps": timesteps, "headless": True, "disable_progressbar": True}
    cfg["close_environment_at_exit"] = False
    SequentialTrainer(env=env, agents=agent, cfg=cfg).train()


def online(agent):
    return {key: model for key, model in agent.models.items() if not key.startswith("target")}


def test_the_page(run_page, assert_pruned, same_masks):
    names = run_page("skrl.md")
    agent = names["agent"]
    assert load(names["folder"] / "policy").contract["action"]["high"] == [2.0]
    assert_pruned(agent.policy, agent.policy_optimizer)
    for one in (1, 2):
        assert_pruned(agent.models[f"critic_{one}"], agent.critic_optimizer)
        assert same_masks(agent.models[f"critic_{one}"], agent.models[f"target_critic_{one}"])
    policy, critics = (
        kanbatsu.torch.count(torch.nn.ModuleDict({key: agent.models[key] for key in keys}))
        for keys in (["policy"], ["critic_1", "critic_2"])
    )
    assert policy.kept == round(0.5 * policy.total)
    assert critics.kept == round(0.2 * critics.total)


@pytest.mark.parametrize("name", AGENTS)
def test_zeros_stay_and_targets_follow(name, assert_pruned, same_masks, unchanged):
    agent, env = make(name)
    assert prune_agent(agent, **PARTS.get(name, {"actor": 0.5, "critic": 0.8})) is agent
    masks = {key: kanbatsu.torch.masks(model) for key, model in agent.models.items()}
    as_before = unchanged(*agent.models.values())
    learn(agent, env, 64)
    assert not as_before()
    optimizers = [getattr(agent, key) for key in OPTIMIZERS if hasattr(agent, key)]
    for key, model in online(agent).items():
        assert_pruned(model, *optimizers)
        if f"target_{key}" in agent.models:
            target = agent.models[f"target_{key}"]
            assert_pruned(target)
            assert same_masks(model, target)
    for key, model in agent.models.items():
        now = kanbatsu.torch.masks(model)
        assert all(torch.equal(mask, now[path]) for path, mask in masks[key].items())


def test_counts_are_exact_and_parts_apart(same_masks):
    agent, _ = make("SAC")
    prune_agent(agent, actor=0.5, critic=0.8)
    # By hand: 3 observations, 1 action, 16 and 16 units.
    policy = kanbatsu.torch.count(agent.policy)
    assert (policy.total, policy.kept) == (3 * 16 + 16 * 16 + 16, 160)
    critics = [kanbatsu.torch.count(agent.models[f"critic_{one}"]) for one in (1, 2)]
    assert [critic.total for critic in critics] == [4 * 16 + 16 * 16 + 16] * 2
    assert sum(critic.kept for critic in critics) == round(0.2 * 2 * 336)
    assert not same_masks(agent.critic_1, agent.critic_2)


def test_critics_that_began_as_copies_have_masks_of_their_own(same_masks):
    agent, _ = make("SAC")
    agent.critic_2.load_state_dict(agent.critic_1.state_dict())
    agent.target_critic_2.load_state_dict(agent.critic_1.state_dict())
    prune_agent(agent, critic=0.8)
    assert not same_masks(agent.critic_1, agent.critic_2)
    assert same_masks(agent.critic_2, agent.target_critic_2)


def test_a_saved_agent_is_loaded_with_its_masks(tmp_path, unchanged, assert_pruned, same_masks):
    agent, env = make("SAC")
    prune_agent(agent, actor=0.5, critic=0.8)
    learn(agent, env, 40)
    agent.save(tmp_path / "agent.pt")
    fresh, env = make("SAC")
    prune_agent(fresh, actor=0.5, critic=0.8, seed=1)
    assert not same_masks(fresh.policy, agent.policy)
    fresh.load(tmp_path / "agent.pt")
    for key, model in agent.models.items():
        assert same_masks(fresh.models[key], model)
    learn(fresh, env, 40)
    for key, model in agent.models.items():
        assert same_masks(fresh.models[key], model)
        assert_pruned(fresh.models[key])


def test_a_file_of_other_layers_changes_nothing(tmp_path, unchanged):
    agent, _ = make("SAC")
    prune_agent(agent, actor=0.5, critic=0.0)
    agent.save(tmp_path / "agent.pt")
    fresh, _ = make("SAC")
    prune_agent(fresh, actor=0.5, critic=0.8, exclude="actor.policy.net_container.2")
    as_before = unchanged(fresh.policy)
    with pytest.raises(ValueError, match="in the state_dict; nothing was loaded"):
        fresh.load(tmp_path / "agent.pt")
    assert as_before()


def test_the_models_can_be_probed():
    agent, _ = make("SAC")
    prune_agent(agent)
    inputs = {"observations": torch.randn(64, 3)}
    health = kanbatsu.torch.probe(agent.policy, inputs, loss=lambda out: out[0].mean())
    assert {"dormant_0.1", "srank", "gradient_norm"} <= health.keys()
    assert health["gradient_norm"] > 0
    inputs["taken_actions"] = torch.randn(64, 1)
    assert kanbatsu.torch.probe(agent.critic_1, inputs)["srank"] >= 1


SCALED = {
    "observation_preprocessor": RunningStandardScaler,
    "observation_preprocessor_kwargs": {"size": 3, "device": "cpu"},
}
EXPORTED = {
    "SAC": {"learning_starts": 20, **SCALED},
    "PPO": {"output": "2 * tanh(ACTIONS)", **SCALED},
    "TD3": {},
    "DDQN": {"output": "ACTIONS"},
}


@pytest.mark.parametrize("name", EXPORTED)
def test_a_trained_policy_is_exported(name, tmp_path, assert_exported):
    torch.manual_seed(0)
    agent, env = make(name, **EXPORTED[name])
    prune_agent(agent, **({"critic": 0.3} if name == "DDQN" else {"actor": 0.5, "critic": 0.8}))
    learn(agent, env, 48)
    export_policy(agent, tmp_path, c=True)
    model = agent.models["q_network" if name == "DDQN" else "policy"]
    observations = 30 * torch.randn(50, model.num_observations)
    with torch.no_grad():
        inputs = {"observations": agent._observation_preprocessor(observations)}
        computed = model.act(inputs, role="policy")
        actions = computed[1].get("mean_actions", computed[0])
    wanted = actions.argmax(dim=-1) if name == "DDQN" else actions.clamp(-2, 2)
    kept = kanbatsu.torch.count(model).kept + (name == "PPO")  # that one multiplies by 2
    assert_exported(tmp_path, observations, wanted, kept)
    scaler = load(tmp_path).contract["normaliser"]
    assert (scaler["observations_seen"] is not None) == (SCALED.keys() <= EXPORTED[name].keys())


def test_a_shared_model_is_exported_and_goes_on_learning(tmp_path, assert_exported):
    agent, env = shared()
    prune_agent(agent, actor=0.5)
    learn(agent, env, 32)
    export_policy(agent, tmp_path)
    observations = torch.randn(50, 3)
    with torch.no_grad():
        wanted = agent.policy.compute({"observations": observations}, "policy")[0].clamp(-2, 2)
    assert_exported(tmp_path, observations, wanted, None)
    agent.policy._shared_output = None
    learn(agent, env, 32)


def test_what_is_no_agent_cannot_be_exported(tmp_path):
    with pytest.raises(ValueError, match="this Linear is no agent of skrl with a model called"):
        export_policy(torch.nn.Linear(2, 2), tmp_path / "policy")
    assert not (tmp_path / "policy").exists()


def shared():
    env = wrap_env(gymnasium.make("Pendulum-v1"))
    spaces = {"observation_space": env.observation_space, "action_space": env.action_space}
    model = shared_model(
        **spaces,
        structure=["GaussianMixin", "DeterministicMixin"],
        roles=["policy", "value"],
        parameters=[
            {"network": network("OBSERVATIONS"), "output": "ACTIONS"},
            {"network": network("OBSERVATIONS"), "output": "ONE"},
        ],
    )
    for role in ("policy", "value"):
        model.init_state_dict(role=role)
    memory = RandomMemory(memory_size=16, num_envs=1, device="cpu")
    cfg = {**AGENTS["PPO"][1], "experiment": {"write_interval": 0, "checkpoint_interval": 0}}
    return PPO(
        models={"policy": model, "value": model}, memory=memory, cfg=cfg, device="cpu", **spaces
    ), env


def test_a_shared_model_has_one_sparsity(assert_pruned, unchanged):
    agent, env = shared()
    as_before = unchanged(agent.policy)
    with pytest.raises(ValueError, match="one model, which has one sparsity"):
        prune_agent(agent, actor=0.5, critic=0.5)
    assert as_before()
    prune_agent(agent, actor=0.5)
    assert kanbatsu.torch.count(agent.policy).sparsity == 0.5
    learn(agent, env, 48)
    assert_pruned(agent.policy, agent.optimizer)


@pytest.mark.parametrize(
    ("name", "wanted", "message"),
    [
        ("DDQN", {"actor": 0.5}, "this DDQN has no actor to prune, only critic: leave actor=0.5"),
        ("SAC", {"critic": 1.0}, r"must lie in \[0, 1\)"),
        ("SAC", {"include": "policy.*"}, "critic.critic_1.net_container.0"),
        ("SAC", {"seed": -1}, r"seed must lie in \[0, 2\*\*32\)"),
        ("SAC", {"compute": "fast"}, "compute"),
    ],
)
def test_wrong_input_changes_nothing(name, wanted, message, unchanged):
    agent, _ = make(name)
    as_before = unchanged(*agent.models.values())
    with pytest.raises(ValueError, match=message):
        prune_agent(agent, **wanted)
    assert as_before()


def test_an_agent_is_pruned_once_before_it_learns(unchanged):
    agent, env = make("SAC")
    learn(agent, env, 20)
    as_before = unchanged(*agent.models.values())
    with pytest.raises(ValueError, match="this SAC has been trained"):
        prune_agent(agent)
    assert as_before()
    agent, _ = make("SAC")
    prune_agent(agent)
    with pytest.raises(ValueError, match="this SAC is already pruned"):
        prune_agent(agent)
    with pytest.raises(ValueError, match="this dict is no agent of skrl"):
        prune_agent({})


def test_a_target_unlike_its_source_is_refused(unchanged):
    agent, _ = make("SAC")
    agent.models["target_critic_2"] = agent.policy.__class__(
        observation_space=agent.observation_space,
        state_space=None,
        action_space=agent.action_space,
        device="cpu",
    )
    agent.models["target_critic_2"].init_state_dict()
    as_before = unchanged(*agent.models.values())
    with pytest.raises(ValueError, match=r"target of critic\.critic_2 is unlike it"):
        prune_agent(agent)
    assert as_before()
