"""jax/dispatch: what one answer of an exported controller takes, dense and sparse, in turns.

    .venv/bin/python benchmarks/control_period.py

Networks of action values of PQN, 512 wide, two hidden layers, trained for a moment: how long an
answer takes does not depend on what was learned. The two are timed in turns in one process, so that
whatever else the machine does meets both; printed are medians, and the ratio with its quartiles.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

from kanbatsu.agents.pqn import PQNConfig
from kanbatsu.agents.schedule import RolloutTrainConfig
from kanbatsu.deploy import Policy, export, load
from kanbatsu.nn.normed import NormedNetworkConfig
from kanbatsu.run.carry import run_one
from kanbatsu.run.record import Run

SPARSITIES = (0.0, 0.8, 0.95)
TURNS, CALLS = 200, 50


def controller(sparsity: float, folder: Path) -> Policy:
    """Train for a moment, export, and load."""
    critic = NormedNetworkConfig(width=512, blocks=2, sparsity=sparsity)
    train = RolloutTrainConfig(
        environments=8, rollout=8, evaluation_episodes=1, checkpoint_every=64, probe_batch=64
    )
    config = PQNConfig(critic, minibatches=1)
    run_one(Run("jax/dispatch", "pqn", 0, 64, config, train), folder / "run")
    export(folder / "run", folder / "policy", onnx=False)
    return load(folder / "policy")


def seconds(policy: Policy, observations: np.ndarray) -> float:
    """Return what one answer takes."""
    began = time.perf_counter()
    for obs in observations:
        policy(obs)
    return (time.perf_counter() - began) / len(observations)


def main() -> None:
    """Print what was measured."""
    with tempfile.TemporaryDirectory() as out:
        policies = {s: controller(s, Path(out) / str(s)) for s in SPARSITIES}
    observations = np.random.default_rng(0).uniform(size=(CALLS, 36)).astype(np.float32)
    turns = np.array(
        [[seconds(policies[s], observations) for s in SPARSITIES] for _ in range(TURNS)]
    )
    for at, sparsity in enumerate(SPARSITIES):
        median = 1e6 * np.median(turns[:, at])
        low, ratio, high = np.quantile(turns[:, 0] / turns[:, at], (0.25, 0.5, 0.75))
        print(
            f"{sparsity:4.0%} removed: {median:6.1f} us, dense takes {ratio:.2f} times as long "
            f"(quartiles {low:.2f} to {high:.2f})"
        )


if __name__ == "__main__":
    main()
