"""The rule in use today: evaluated on the episodes of the agents, and held against them."""

import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kanbatsu.agents import AGENTS
from kanbatsu.deploy import export_policy
from kanbatsu.envs.classic import Pendulum
from kanbatsu.envs.make import make
from kanbatsu.envs.spec import TaskError
from kanbatsu.envs.vector import episode_seed
from kanbatsu.files.store import RunFolder
from kanbatsu.files.tables import RecordError, canonical_hash, to_dict
from kanbatsu.nn.config import CriticConfig, NetworkConfig
from kanbatsu.run.carry import run_one
from kanbatsu.run.incumbent import evaluation_seed
from kanbatsu.run.record import Run, run_from_dict
from kanbatsu.study.file import study_from_dict
from kanbatsu.study.plan import check_study, study_record
from kanbatsu.train.evaluate import evaluate, evaluate_compiled

RULE = "pendulum_rule:damped"
MODULE = """
class Damped:
    def __init__(self):
        self.begun = 0

    def reset(self):
        self.begun += 1
        self.steps = 0

    def __call__(self, obs):
        self.steps += 1
        return [-obs[2] / self.begun]

damped = Damped
wrong = lambda: lambda obs: [1.0, 2.0]
still = lambda: lambda obs: 1
"""
SMALL = {"width": 8, "blocks": 1}
TABLE = {
    "question": "?",
    "tasks": ["gym/Pendulum-v1"],
    "env_steps": 100,
    "seeds": [3],
    "control": "dense",
    "incumbent": RULE,
    "train": {"evaluation_episodes": 2, "environments": 3},
    "arm": {"dense": {"actor": SMALL, "critic": SMALL}},
}


@pytest.fixture(autouse=True)
def rule(tmp_path, monkeypatch):
    (tmp_path / "pendulum_rule.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("pendulum_rule", None)


def run_of(table: dict[str, Any]) -> Run:
    (run,) = (each.run for each in study_from_dict(table).runs() if each.arm == "incumbent")
    return run


def returns(run: Run, folder: Any) -> dict[int, list[float]]:
    run_one(run, folder)
    assert RunFolder(folder).finished
    return {line["env_steps"]: line["returns"] for line in RunFolder(folder).metrics()}


def test_its_numbers_are_those_of_an_evaluation_outside(tmp_path):
    found = returns(run_of(TABLE), tmp_path / "run")
    assert list(found) == [0, 102]  # the control's three simulators end there
    world = make("gym/Pendulum-v1")
    for env_steps, played in found.items():
        outside = []
        for episode in range(2):
            obs, total, over = (
                world.reset(episode_seed(evaluation_seed(3, env_steps), 0, episode)),
                0.0,
                False,
            )
            while not over:
                torque = -float(obs[2]) / (episode + 1)  # as often as the rule was reset
                step = world.step(np.float32([np.clip(torque / 2.0, -1, 1)]))
                obs, over = step.obs, step.terminated or step.truncated
                total += step.reward
            outside.append(total)
        assert played == pytest.approx(outside, rel=1e-6)


def test_a_compiled_task_plays_the_same_episodes_with_a_rule_of_python(tmp_path):
    run = run_of(TABLE | {"tasks": ["jax/pendulum"]})
    (_, played) = returns(run, tmp_path / "run").values()
    outside = evaluate_compiled(
        lambda _, obs: jnp.clip(-obs[:, 2:] / 2.0, -1, 1),
        None,
        Pendulum(),
        seed=evaluation_seed(3, 102),
        episodes=2,
    )
    assert played == pytest.approx(outside.returns, rel=1e-4)


@pytest.mark.slow
def test_an_exported_policy_is_an_incumbent(tmp_path):
    entry = AGENTS["sac"]
    network = NetworkConfig(network="mlp", width=8, blocks=1)
    critic = CriticConfig(network="mlp", width=4, blocks=1)
    world = make("gym/Pendulum-v1")
    agent = entry.agent(world.spec, entry.config(actor=network, critic=critic))
    state = agent.init(jax.random.key(0))
    export_policy(state.actor, state.normaliser, tmp_path / "policy", low=[-2.0], high=[2.0])
    found = returns(run_of(TABLE | {"incumbent": str(tmp_path / "policy")}), tmp_path / "run")
    played = evaluate(
        jax.jit(agent.act_greedy), state, world, seed=evaluation_seed(3, 102), episodes=2
    )
    assert found[102] == pytest.approx(played.returns, rel=1e-4)


def test_a_study_names_it_and_old_records_stay():
    study = study_from_dict(TABLE)
    assert list(study.arms) == ["dense", "incumbent"]
    check_study(study)
    run = run_of(TABLE)
    assert run_from_dict(to_dict(run)) == run
    plain = study_from_dict({key: x for key, x in TABLE.items() if key != "incumbent"})
    assert [each.run_id for each in plain.runs()] == [study.runs()[0].run_id]
    assert study_record(study, "")["arms"]["incumbent"]["config"]["policy"] == RULE
    assert canonical_hash(to_dict(Run("inventory/serial")))[:8] == "d8c23139"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"incumbent": "pendulum_rule:wrong"}, r"answered \[1.0, 2.0\].*is 1 finite numbers"),
        ({"incumbent": "pendulum_rule:dampd"}, "Did you mean 'damped'"),
        ({"tasks": ["gym/CartPole-v1"], "agent": "stream_q", "train": {}}, "whole number below 2"),
    ],
)
def test_a_rule_that_does_not_fit_is_refused_before_anything_is_trained(changes, message):
    arms = {"arm": {"dense": {"critic": SMALL}}} if "agent" in changes else {}
    with pytest.raises((RecordError, TaskError), match=message):
        check_study(study_from_dict(TABLE | changes | arms))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"decision": {"beats": "incumbent"}, "incumbent": None}, "there is no rule to beat"),
        ({"decision": {"arms": ["incumbent"]}}, "in use already"),
        ({"arm": {"incumbent": {}}, "control": "incumbent"}, "cannot have the name"),
    ],
)
def test_mistakes_of_a_study_are_named(changes, message):
    table = TABLE | {"arm": {"dense": {}, "sparse": {}}} | changes
    with pytest.raises(RecordError, match=message):
        study_from_dict({key: x for key, x in table.items() if x is not None})
