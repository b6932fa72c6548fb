"""Runs that learn from a stream: their files, their resumption, and what is refused by name."""

import json
from dataclasses import replace

import numpy as np
import pytest

from kanbatsu.agents.schedule import TrainConfig
from kanbatsu.agents.stream_ac import StreamACConfig
from kanbatsu.agents.stream_q import StreamQConfig
from kanbatsu.files.store import RunFolder
from kanbatsu.files.tables import RecordError, to_dict
from kanbatsu.nn.stream import StreamNetworkConfig
from kanbatsu.run.carry import run_one
from kanbatsu.run.check import check
from kanbatsu.run.record import run_from_dict
from kanbatsu.study.file import study_from_dict


@pytest.mark.parametrize("kind", ["compiled", "host"])
def test_a_run_leaves_its_files_and_continues_exactly(kind, runs, kill, tmp_path):
    run = runs[kind][0]
    run_one(run, tmp_path / "whole")
    files = RunFolder(tmp_path / "whole")
    kinds = {}
    for record in files.metrics():
        kinds.setdefault(record["kind"], []).append(record)
    assert [r["env_steps"] for r in kinds["evaluation"]] == [0, 300]
    assert [r["env_steps"] for r in kinds["update"]] == [50, 100, 150, 200, 250, 300]
    assert [r["env_steps"] for r in kinds["probe"]] == [100, 200, 300]
    assert "critic_step_size" in kinds["update"][0]["metrics"]
    assert {"critic/srank", "critic/dormant_0.1"} <= set(kinds["probe"][0]["metrics"])
    lengths = [r["length"] for r in kinds["episode"]]
    assert [r["env_steps"] for r in kinds["episode"]] == np.cumsum(lengths).tolist()
    network = kinds["networks"][0]
    kept = network["networks"]["critic"]["kept"]
    passes = 5 if kind == "compiled" else 4
    others = 0 if kind == "compiled" else 2 * 4 * network["networks"]["actor"]["kept"]
    assert network["flops_per_update"]["sparse"] == 2 * passes * kept + others
    assert run_from_dict(json.loads(json.dumps(to_dict(run)))) == run

    with pytest.raises(KeyboardInterrupt):
        run_one(run, tmp_path / "killed", kill)
    run_one(run, tmp_path / "killed")
    ours, theirs = (tmp_path / n / "metrics.jsonl" for n in ("killed", "whole"))
    assert ours.read_bytes() == theirs.read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "jax/pendulum"}, "jax/pendulum has continuous actions.*stream_ac"),
        ({"task": "gym/Pendulum-v1"}, "has continuous actions"),
        ({"agent": "stream_ac", "config": StreamACConfig()}, "has discrete actions.*stream_q"),
        ({"train": TrainConfig()}, "stream_q runs by a StreamTrainConfig.*no batch_size"),
        ({"config": StreamQConfig(critic_kappa=-1.0)}, "critic_kappa must be at least 0"),
        ({"config": StreamQConfig(trace_decay=1.5)}, "trace_decay must lie in"),
        (
            {"config": StreamQConfig(StreamNetworkConfig(initial_sparsity=2.0))},
            "critic.initial_sparsity must lie in",
        ),
        (
            {"config": StreamQConfig(StreamNetworkConfig(sparsity=1.0))},
            r"critic: sparsity must lie",
        ),
    ],
    ids=str,
)
def test_what_cannot_work_is_refused_before_training(runs, change, message):
    with pytest.raises(ValueError, match=message):
        check(replace(runs["compiled"][0], **change))


def test_check_says_what_will_be_kept(runs):
    counts = check(runs["host"][0])
    assert set(counts) == {"actor", "critic"}
    assert counts["critic"].kept == round(0.5 * counts["critic"].total)


@pytest.mark.parametrize("setting", ["batch_size", "replay_capacity", "warmup_interactions"])
def test_a_batch_and_a_replay_are_refused_by_name(setting):
    table = {
        "question": "?",
        "tasks": ["jax/cartpole"],
        "agent": "stream_q",
        "env_steps": 100,
        "seeds": 1,
        "arm": {"x": {"train": {setting: 32}}},
    }
    with pytest.raises(RecordError, match=f"arm.x.train.{setting}: stream_q learns from every"):
        study_from_dict(table)
