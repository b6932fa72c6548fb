"""Runs side by side in one program leave the folders that they would leave alone."""

import json
from dataclasses import replace

import numpy as np
import pytest

from kanbatsu.agents.sac import SACConfig
from kanbatsu.agents.stream_ac import StreamACConfig
from kanbatsu.agents.stream_q import StreamQConfig
from kanbatsu.envs.vector import EnvironmentFault, VectorEnvironment
from kanbatsu.nn.config import CriticConfig, NetworkConfig
from kanbatsu.nn.stream import StreamNetworkConfig
from kanbatsu.study.file import study_from_dict
from kanbatsu.study.population import run_population, run_populations
from kanbatsu.study.run import Run
from kanbatsu.study.run_one import run_one
from kanbatsu.study.store import RunFolder, StudyFolder
from kanbatsu.train.config import StreamTrainConfig, TrainConfig

SMALL = StreamNetworkConfig(width=8, blocks=1, initial_sparsity=0.5, sparsity=0.5)
SCHEDULE = StreamTrainConfig(
    evaluate_every=300,
    evaluation_episodes=1,
    probe_every=100,
    probe_batch=64,
    log_every=50,
    checkpoint_every=100,
)
RUNS = {
    "compiled": Run("jax/cartpole", "stream_q", 3, 300, StreamQConfig(SMALL), SCHEDULE),
    "host": Run("gym/Pendulum-v1", "stream_ac", 3, 300, StreamACConfig(SMALL, SMALL), SCHEDULE),
    "replay": Run(
        "gym/Pendulum-v1",
        "sac",
        3,
        300,
        SACConfig(
            actor=NetworkConfig(width=8, blocks=1),
            critic=CriticConfig(width=8, blocks=1, sparsity=0.5),
        ),
        TrainConfig(
            batch_size=8,
            warmup_interactions=60,
            replay_capacity=200,
            evaluate_every=300,
            evaluation_episodes=1,
            probe_every=100,
            probe_batch=64,
            log_every=50,
            checkpoint_every=100,
            environments=2,
        ),
    ),
}


class Killed(Exception):
    """What the test raises in the middle of a population."""


def two(kind):
    return [RUNS[kind], replace(RUNS[kind], seed=4)]


def numbers(record):
    """A record's numbers, laid end to end, and everything else of it."""
    flat = json.loads(json.dumps(record), object_hook=lambda table: list(table.items()))
    found, rest = [], []

    def walk(x):
        if isinstance(x, list | tuple):
            for each in x:
                walk(each)
        elif isinstance(x, float):
            found.append(x)
        else:
            rest.append(x)

    walk(flat)
    return found, rest


@pytest.mark.parametrize("kind", RUNS)
def test_a_member_leaves_the_run_that_it_would_be_alone_and_continues_exactly(kind, tmp_path):
    runs = two(kind)
    together = [tmp_path / "together" / str(run.seed) for run in runs]
    assert run_population(runs, together) == [None, None]
    for run, folder in zip(runs, together, strict=True):
        run_one(run, tmp_path / "alone" / str(run.seed))
        alone = RunFolder(tmp_path / "alone" / str(run.seed))
        ours, theirs = RunFolder(folder).metrics(), alone.metrics()
        assert RunFolder(folder).read_config() == alone.read_config()
        assert RunFolder(folder).finished
        assert len(ours) == len(theirs)
        for mine, other in zip(ours, theirs, strict=True):
            (a, facts), (b, other_facts) = numbers(mine), numbers(other)
            assert facts == other_facts
            # Not to the bit: a product of two members rounds otherwise than that of one.
            np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4)
    assert ours != RunFolder(together[0]).metrics()  # seeds differ

    def kill(env_steps):
        if env_steps == 250:
            raise Killed

    again = [tmp_path / "killed" / str(run.seed) for run in runs]
    with pytest.raises(Killed):
        run_population(runs, again, kill)
    run_population(runs, again)
    for a, b in zip(together, again, strict=True):
        assert (a / "metrics.jsonl").read_bytes() == (b / "metrics.jsonl").read_bytes()


def test_one_that_fails_is_stored_and_the_others_go_on(tmp_path, monkeypatch):
    step = VectorEnvironment.step

    def crash(self, actions):
        if self._seed == 4 and self._interactions == 120:
            raise EnvironmentFault("the simulator broke")
        return step(self, actions)

    monkeypatch.setattr(VectorEnvironment, "step", crash)
    folders = [tmp_path / "3", tmp_path / "4"]
    told = []
    errors = run_population(two("host"), folders, told.append)
    assert errors[0] is None
    assert str(errors[1]) == "the simulator broke"
    assert told == [50, 100, 150, 200, 250, 300]
    assert [RunFolder(f).finished for f in folders] == [True, False]
    status = RunFolder(folders[1]).read_status()
    assert status["state"] == "failed"
    assert "the simulator broke" in status["error"]
    assert "Traceback" in status["traceback"]


def test_a_study_is_carried_out_arm_by_arm(tmp_path, monkeypatch):
    table = {
        "question": "?",
        "tasks": ["jax/cartpole"],
        "env_steps": 100,
        "seeds": 3,
        "arm": {"q": {"agent": "stream_q"}, "wide": {"agent": "stream_q", "critic": {"width": 64}}},
    }
    sac = {"agent": "sac", "train": {"warmup_interactions": 10}}
    study = study_from_dict(table | {"arm": table["arm"] | {"sac": sac}, "tasks": ["jax/cartpole"]})
    seen, said = [], []

    def pretend(runs, folders):
        seen.append(([run.seed for run in runs], {run.config for run in runs}, folders))
        return [None, ValueError("no"), None]

    monkeypatch.setattr("kanbatsu.study.population.run_population", pretend)
    run_populations(study, tmp_path, "kanbatsu study", said.append)
    assert [seeds for seeds, _, _ in seen] == [[0, 1, 2], [0, 1, 2], [0, 1, 2]]
    widths = [config.critic.width for _, (config,), _ in seen]
    assert widths == [32, 64, 512]
    planned = {run.run_id for run in study.runs()}
    assert {folder.name for _, _, folders in seen for folder in folders} == planned
    assert StudyFolder(tmp_path).read_study()["question"] == "?"
    assert said[:2] == ["3 seeds of q on jax/cartpole, side by side ...", "2 finished, 1 failed"]


def test_what_is_no_population_is_refused(tmp_path):
    runs = [RUNS["compiled"], RUNS["host"]]
    with pytest.raises(ValueError, match="runs that differ in seed alone"):
        run_population(runs, [tmp_path / "a", tmp_path / "b"])
