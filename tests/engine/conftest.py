"""A study that lasts moments, and a place where workers find the tasks of `tricky.py`."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kanbatsu.agents.sac import SACConfig
from kanbatsu.agents.schedule import TrainConfig
from kanbatsu.nn.config import CriticConfig, NetworkConfig
from kanbatsu.study.plan import Arm, Study


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder where all workers of all tests share what they compile."""
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture
def tasks(tmp_path: Path, compiled: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let this process and its workers import `tricky`; return the folder that they stand in."""
    here = str(Path(__file__).parent)
    monkeypatch.syspath_prepend(here)
    monkeypatch.setenv("PYTHONPATH", here, prepend=os.pathsep)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(compiled))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tiny_study(tasks: tuple[str, ...], seeds: tuple[int, ...] = (0,), **train: Any) -> Study:
    """Return a study whose runs last moments: one arm, networks of eight units."""
    tiny: dict[str, Any] = {"network": "mlp", "width": 8, "blocks": 1}
    config = SACConfig(actor=NetworkConfig(**tiny), critic=CriticConfig(**tiny, sparsity=0.5))
    schedule = {
        "batch_size": 4,
        "warmup_interactions": 10,
        "replay_capacity": 100,
        "evaluate_every": 100,
        "evaluation_episodes": 1,
        "log_every": 20,
        "probe_batch": 8,
    }
    return Study(
        question="Does it hold?",
        tasks=tasks,
        env_steps=40,
        seeds=seeds,
        arms={"tiny": Arm("sac", config, TrainConfig(**(schedule | train)))},
    )


@pytest.fixture
def make_tiny_study() -> Callable[..., Study]:
    return tiny_study
