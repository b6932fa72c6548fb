"""Slow: agents learn, dense and sparse, and dense SAC agrees with its published curves.

`make learn` runs these; the published ones take an hour or so each on two cores.
"""

import csv
from pathlib import Path

import numpy as np
import pytest

from kanbatsu.agents import AGENTS
from kanbatsu.agents.pqn import PQNConfig
from kanbatsu.agents.schedule import RolloutTrainConfig, TrainConfig
from kanbatsu.files.store import RunFolder
from kanbatsu.nn.config import CriticConfig, NetworkConfig
from kanbatsu.nn.normed import NormedNetworkConfig
from kanbatsu.run.carry import run_one
from kanbatsu.run.record import Run

pytestmark = pytest.mark.slow
FOLDER = Path(__file__).parent


def final_return(run, folder):
    run_one(run, folder)
    evaluations = [r for r in RunFolder(folder).metrics() if r["kind"] == "evaluation"]
    return evaluations[-1]["mean_return"]


@pytest.mark.parametrize("sparsity", [0.0, 0.8])
@pytest.mark.parametrize("agent", ["sac", "ddpg"])
def test_pendulum_is_swung_up(agent, sparsity, tmp_path):
    config = AGENTS[agent].config(
        actor=NetworkConfig(width=64, blocks=1, sparsity=sparsity),
        critic=CriticConfig(width=128, blocks=1, sparsity=sparsity),
        learning_rate=1e-3,
    )
    schedule = TrainConfig(
        batch_size=128, updates_per_interaction=1, warmup_interactions=500, checkpoint_every=0
    )
    run = Run("gym/Pendulum-v1", agent, 0, 8_000, config, schedule)
    # A policy that never swings up returns about -1,200; upright from the start, about -150.
    assert final_return(run, tmp_path / "run") > -250


@pytest.mark.parametrize("sparsity", [0.0, 0.8])
def test_pqn_keeps_the_pole_upright(sparsity, tmp_path):
    config = PQNConfig(
        NormedNetworkConfig(width=128, blocks=2, sparsity=sparsity),
        return_decay=0.95,
        minibatches=16,
        epochs=4,
    )
    schedule = RolloutTrainConfig(environments=32, rollout=64, evaluate_every=204_800)
    run = Run("jax/cartpole", "pqn", 0, 204_800, config, schedule)
    # Random actions keep it for about 22 interactions; 500 is the most.
    assert final_return(run, tmp_path / "run") > 400


@pytest.mark.parametrize("task", ["walker-walk", "cartpole-balance"])
def test_dense_sac_agrees_with_the_published_curve(task, tmp_path):
    # SimBa's published results (Apache-2.0): undiscounted returns of SAC with SimBa, actor
    # 128 x 1, critic 512 x 2, one row per seed.
    with (FOLDER / "published_returns.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["task"] == task]
    published = np.array([float(r["return"]) for r in rows if r["env_steps"] == "50000"])
    assert len(published) >= 5
    ours = final_return(Run(f"dmc/{task}", env_steps=50_000), tmp_path / "run")
    assert abs(ours - published.mean()) <= 3 * published.std(ddof=1)
