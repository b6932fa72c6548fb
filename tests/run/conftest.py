"""Runs that last moments, of every way to train, by name."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from kanbatsu.agents.sac import SACConfig
from kanbatsu.agents.schedule import StreamTrainConfig, TrainConfig
from kanbatsu.agents.stream_ac import StreamACConfig
from kanbatsu.agents.stream_q import StreamQConfig
from kanbatsu.nn.config import CriticConfig, NetworkConfig
from kanbatsu.nn.stream import StreamNetworkConfig
from kanbatsu.run.record import Run

OFTEN: dict[str, Any] = {
    "evaluate_every": 300,
    "evaluation_episodes": 1,
    "probe_every": 100,
    "probe_batch": 64,
    "log_every": 50,
    "checkpoint_every": 100,
}
SMALL = StreamNetworkConfig(width=8, blocks=1, initial_sparsity=0.5, sparsity=0.5)
STREAM = StreamTrainConfig(**OFTEN)
REPLAY = TrainConfig(
    batch_size=8, warmup_interactions=60, replay_capacity=200, environments=2, **OFTEN
)
SAC = SACConfig(
    actor=NetworkConfig(width=8, blocks=1), critic=CriticConfig(width=8, blocks=1, sparsity=0.5)
)
REPLAYED = Run("gym/Pendulum-v1", "sac", 3, 300, SAC, REPLAY)
RUNS = {
    "compiled": Run("jax/cartpole", "stream_q", 3, 300, StreamQConfig(SMALL), STREAM),
    "host": Run("gym/Pendulum-v1", "stream_ac", 3, 300, StreamACConfig(SMALL, SMALL), STREAM),
    "replay": REPLAYED,
    "device": replace(REPLAYED, task="jax/pendulum"),
}
DENSE: dict[str, Any] = {"sparsity": 0.0, "compute": "masked"}
GROUPED: dict[str, Any] = {
    "sparsity": 0.5,
    "pattern": "grouped",
    "group_size": 4,
    "compute": "masked",
}
THINNED_SAC = SACConfig(replace(SAC.actor, **GROUPED), replace(SAC.critic, **DENSE))
OTHERS = {  # the shapes of RUNS, thinned otherwise
    "compiled": StreamQConfig(replace(SMALL, initial_sparsity=0.0, **DENSE)),
    "host": StreamACConfig(replace(SMALL, **DENSE), replace(SMALL, **GROUPED)),
    "replay": THINNED_SAC,
    "device": THINNED_SAC,
}


@pytest.fixture
def runs() -> dict[str, list[Run]]:
    """Return three runs of one shape for each way to train: other seeds, and other masks."""
    return {
        kind: [run, replace(run, seed=4), replace(run, config=OTHERS[kind])]
        for kind, run in RUNS.items()
    }


@pytest.fixture
def kill() -> Callable[[int], None]:
    """Return what ends a run between two checkpoints, called with the env steps done."""

    def interrupt(env_steps: int) -> None:
        if env_steps == 250:
            raise KeyboardInterrupt

    return interrupt
