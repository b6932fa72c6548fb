"""What the tests of sharing share: one trained run in a study with a verdict, and its policy."""

import pytest

from kanbatsu.agents.sac import SACConfig
from kanbatsu.agents.schedule import TrainConfig
from kanbatsu.deploy import Contract, export
from kanbatsu.files.store import StudyFolder
from kanbatsu.nn.config import CriticConfig, NetworkConfig
from kanbatsu.report.page import write_report
from kanbatsu.run.carry import run_one
from kanbatsu.run.record import Run

TASK = "gym/Pendulum-v1"
RUN = Run(
    task=TASK,
    env_steps=40,
    config=SACConfig(
        actor=NetworkConfig(network="mlp", width=16, blocks=2, sparsity=0.5),
        critic=CriticConfig(network="mlp", width=8, blocks=1),
    ),
    train=TrainConfig(
        batch_size=4, warmup_interactions=10, replay_capacity=100, evaluation_episodes=3,
        checkpoint_every=20,
    ),
)  # fmt: skip
RULE = {
    "goal": "better",
    "measure": "mean_difference",
    "minimum_effect": 0.0,
    "maximal_regression": None,
    "max_failure_rate": None,
    "saves": "kept",
    "confidence": 0.95,
    "seeds": 5,
    "control": None,
    "arms": [],
}
RETURNS = {"dense": -1_200.0, "sparse": -900.0}


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """The folder of a run that was trained, the first seed of the sparse arm."""
    folder = StudyFolder(tmp_path_factory.mktemp("study"))
    trained = folder.run_folder("sparse-0")
    run_one(RUN, trained.path)
    (networks,) = [line for line in trained.metrics() if line["kind"] == "networks"]
    arms = {}
    for arm, planted in RETURNS.items():
        ids = {str(seed): f"{arm}-{seed}" for seed in range(5)}
        settings = trained.read_config()
        arms[arm] = {
            "agent": "sac",
            "config": settings["config"],
            "train": settings["train"],
            "runs": {TASK: ids},
        }
        for seed, run_id in ids.items():
            if run_id == "sparse-0":
                continue
            other = folder.run_folder(run_id)
            other.write_config(settings | {"seed": int(seed)})
            other.append(networks)
            returns = [planted + float(seed)]
            line = {"kind": "evaluation", "env_steps": 40, "returns": returns, "flops": 1e9}
            other.append(line | {"mean_return": returns[0]})
            other.write_status("finished", None)
    folder.write_study(
        {
            "question": "Does thinning help?",
            "note": None,
            "agent": "sac",
            "control": "dense",
            "decision": RULE,
            "tasks": [TASK],
            "seeds": list(range(5)),
            "env_steps": 40,
            "command": "kanbatsu study STUDY.toml --out out/study",
            "hash": "0",
            "arms": arms,
        }
    )
    write_report(folder.path)
    return trained.path


@pytest.fixture(scope="session")
def policy(run, tmp_path_factory):
    """The folder of that run's policy."""
    folder = tmp_path_factory.mktemp("policy") / "policy"
    export(run, folder, contract=Contract(licence="MIT"), onnx=False)
    return folder
