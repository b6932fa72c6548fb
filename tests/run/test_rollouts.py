"""Whole runs of an agent that learns from rollouts: files, a stop in between, side by side."""

from dataclasses import replace

import numpy as np
import pytest

from kanbatsu.agents.pqn import PQNConfig
from kanbatsu.agents.schedule import RolloutTrainConfig
from kanbatsu.files.store import RunFolder
from kanbatsu.nn.normed import NormedNetworkConfig
from kanbatsu.run.carry import run_one, run_side_by_side
from kanbatsu.run.in_progress import RunInProgress
from kanbatsu.run.record import Run

SCHEDULE = RolloutTrainConfig(
    environments=4,
    rollout=8,
    evaluate_every=128,
    evaluation_episodes=2,
    probe_every=64,
    probe_batch=32,
    log_every=64,
    checkpoint_every=64,
)
THIN = NormedNetworkConfig(width=8, channels=4, sparsity=0.5)
CONFIG = PQNConfig(THIN, minibatches=4)


class Killed(Exception):
    """What the test raises in the middle of a run."""


@pytest.mark.parametrize("task", ["gymnax/Breakout-MinAtar", "gym/CartPole-v1"])
def test_a_run_that_was_stopped_writes_what_it_would_have_written(task, tmp_path):
    run = Run(task, "pqn", 3, 256, CONFIG, SCHEDULE)

    def kill(env_steps):
        if env_steps >= 100:
            raise Killed

    run_one(run, tmp_path / "whole")
    with pytest.raises(Killed):
        run_one(run, tmp_path / "killed", kill)
    run_one(run, tmp_path / "killed")
    ours, theirs = (tmp_path / name / "metrics.jsonl" for name in ("killed", "whole"))
    assert ours.read_bytes() == theirs.read_bytes()

    records = list(RunFolder(tmp_path / "whole").metrics())
    updates = [r for r in records if r["kind"] == "update"]
    assert [r["env_steps"] for r in updates] == [64, 128, 192, 256]
    evaluations = [r for r in records if r["kind"] == "evaluation"]
    assert [r["updates"] for r in evaluations] == [0, 4, 8]
    assert {r["kind"] for r in records} >= {"networks", "evaluation", "update", "probe"}


def test_members_of_a_population_are_the_runs_that_they_would_be_alone(tmp_path):
    dense = replace(CONFIG, critic=replace(THIN, sparsity=0.0))
    runs = [Run("jax/cartpole", "pqn", s, 128, c, SCHEDULE) for s, c in ((3, CONFIG), (4, dense))]
    folders = [tmp_path / "3", tmp_path / "4"]
    assert run_side_by_side(runs, folders) == [None, None]
    for run, folder in zip(runs, folders, strict=True):
        run_one(run, tmp_path / "alone" / folder.name)
        ours = list(RunFolder(folder).metrics())
        theirs = list(RunFolder(tmp_path / "alone" / folder.name).metrics())
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert one["kind"] == other["kind"]
            for name, value in numbers(one).items():
                np.testing.assert_allclose(value, numbers(other)[name], rtol=2e-3, err_msg=name)


def numbers(record):
    flat = record | record.get("metrics", {})
    return {name: x for name, x in flat.items() if isinstance(x, (int, float))}


def test_the_agent_is_told_how_long_its_training_is(tmp_path):
    run = Run("gym/CartPole-v1", "pqn", 3, 1_280, CONFIG, replace(SCHEDULE, action_repeat=2))
    agent = RunInProgress(run, RunFolder(tmp_path)).member.agent
    assert agent.training_interactions == 640
    told = replace(run, config=replace(CONFIG, training_interactions=7))
    assert RunInProgress(told, RunFolder(tmp_path / "told")).member.agent.training_interactions == 7
