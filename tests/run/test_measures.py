"""Measures of evaluation episodes: taken from info, recorded, and refused where they are not."""

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kanbatsu.agents.sac import SACConfig
from kanbatsu.agents.schedule import TrainConfig
from kanbatsu.envs.make import make
from kanbatsu.envs.spec import TaskError
from kanbatsu.files.store import RunFolder
from kanbatsu.files.tables import canonical_hash, to_dict
from kanbatsu.nn.config import CriticConfig, NetworkConfig
from kanbatsu.run.carry import run_one
from kanbatsu.run.check import check
from kanbatsu.run.incumbent import IncumbentConfig, IncumbentSchedule
from kanbatsu.run.measures import MeasuredEnvironment, read_measure
from kanbatsu.run.record import Run, run_from_dict

MODULE = """
import gymnasium, numpy as np

class Shop(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.step_count = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.step_count += 1
        info = {"level": 0.5 * self.step_count, "late": self.step_count == 2, "words": "x"}
        if self.step_count == 4:
            info["is_success"] = True
        return np.zeros(1, np.float32), 1.0, False, self.step_count == 4, info

make = Shop
rule = lambda: lambda obs: [0.0]
"""
NAMES = ("level", "sum:level", "last:level", "any:late", "late")
RUN = Run(
    "my_shop:make",
    env_steps=20,
    config=SACConfig(NetworkConfig(width=4, blocks=1), CriticConfig(width=4, blocks=1)),
    train=TrainConfig(4, warmup_interactions=15, evaluation_episodes=2, checkpoint_every=0),
    measures=NAMES,
)


@pytest.fixture(autouse=True)
def shop(tmp_path, monkeypatch):
    (tmp_path / "my_shop.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("my_shop", None)


def play(environment: Any, episodes: int) -> None:
    for episode in range(episodes):
        environment.reset(episode)
        while not environment.step(np.zeros(1)).truncated:
            pass


def test_reports_of_an_episode_become_one_number():
    environment = MeasuredEnvironment(make("my_shop:make"), NAMES)
    play(environment, 3)
    assert environment.take(2) == {
        "level": [1.25, 1.25],
        "sum:level": [5.0, 5.0],
        "last:level": [2.0, 2.0],
        "any:late": [1.0, 1.0],
        "late": [0.25, 0.25],
    }
    assert environment.take(0)["level"] == []


def test_what_is_not_reported_is_named_with_what_is():
    environment = MeasuredEnvironment(make("my_shop:make"), ["levle"])
    play(environment, 1)
    with pytest.raises(TaskError, match=r"'levle' in info.*Did you mean 'level'"):
        environment.take(1)
    with pytest.raises(ValueError, match="no measure: write"):
        read_measure("median:level")
    with pytest.raises(ValueError, match="reports nothing in info"):
        check(replace(RUN, task="jax/pendulum"))


def test_a_rules_evaluations_record_them(tmp_path):
    config = IncumbentConfig("my_shop:rule")
    run = replace(RUN, agent="incumbent", config=config, train=IncumbentSchedule(2))
    run_one(run, tmp_path / "run")
    lines = RunFolder(tmp_path / "run").metrics()
    assert [line["measures"]["late"] for line in lines] == [[0.25, 0.25]] * 2
    assert run_from_dict(to_dict(run)) == run


@pytest.mark.slow
def test_a_run_records_them_and_old_records_stay(tmp_path):
    run_one(RUN, tmp_path / "run")
    lines = [x for x in RunFolder(tmp_path / "run").metrics() if x["kind"] == "evaluation"]
    assert [set(line["measures"]) for line in lines] == [set(NAMES)] * len(lines)
    assert lines[-1]["measures"]["any:late"] == [1.0, 1.0]
    assert run_from_dict(to_dict(RUN)) == RUN
    assert "measures" not in to_dict(replace(RUN, measures=()))
    assert canonical_hash(to_dict(Run("inventory/serial")))[:8] == "d8c23139"
