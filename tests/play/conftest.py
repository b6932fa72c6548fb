"""A study of two tiny agents and a rule on a supply chain, trained once for all tests here."""

from pathlib import Path

import pytest

from kanbatsu.agents.ddpg import DDPGConfig
from kanbatsu.agents.schedule import TrainConfig
from kanbatsu.files.store import StudyFolder
from kanbatsu.files.tables import to_dict
from kanbatsu.nn.config import CriticConfig, NetworkConfig
from kanbatsu.run.carry import run_one
from kanbatsu.run.incumbent import IncumbentConfig, IncumbentSchedule
from kanbatsu.run.record import Run

TASK = "inventory/serial"


def records() -> dict[str, Run]:
    """Return the run of each arm."""
    small = NetworkConfig(network="mlp", width=8, blocks=1)
    schedule = TrainConfig(
        batch_size=4,
        warmup_interactions=10,
        replay_capacity=64,
        evaluation_episodes=1,
        evaluate_every=64,
        probe_every=64,
        checkpoint_every=64,
    )
    arms = {
        arm: Run(
            TASK,
            "ddpg",
            env_steps=40,
            config=DDPGConfig(
                small, CriticConfig(network="mlp", width=8, blocks=1, sparsity=sparsity)
            ),
            train=schedule,
        )
        for arm, sparsity in (("dense", 0.0), ("sparse", 0.5))
    }
    rule = IncumbentConfig("kanbatsu.envs.base_stock:serial")
    schedule_of_rule = IncumbentSchedule(evaluation_episodes=1)
    arms["incumbent"] = Run(TASK, "incumbent", env_steps=40, config=rule, train=schedule_of_rule)
    return arms


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("played") / "out"
    study = StudyFolder(out)
    runs = records()
    for arm, run in runs.items():
        run_one(run, study.run_folder(arm).path)
    study.write_study(
        {
            "question": "Does thinning help?",
            "agent": "ddpg",
            "control": "dense",
            "tasks": [TASK],
            "seeds": [0],
            "env_steps": 40,
            "command": "kanbatsu study thin.toml",
            "hash": "0",
            "arms": {
                arm: {
                    "agent": run.agent,
                    "config": to_dict(run.config),
                    "train": to_dict(run.train),
                    "runs": {TASK: {"0": arm}},
                }
                for arm, run in runs.items()
            },
        }
    )
    return out
