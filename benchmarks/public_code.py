"""Milliseconds per SAC update of the paper's public code and of kanbatsu, in turns, at one size.

    python benchmarks/public_code.py CHECKOUT      # of SparseNetwork4DRL, first release (613a2b9)

The public code carries no licence: it is run here, not copied. It asks for flax, chex, toolz and
TensorFlow Probability, and imports wandb and omegaconf, which no update uses: where they are not
installed an empty module stands in for them.
"""

from __future__ import annotations

import importlib.util
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import jax
import numpy as np
import tyro

from kanbatsu.bench.contender import ACTION_DIM, OBS_DIM, SIZES, Spec, prepare

BATCH = 256
Contender = tuple[Callable[[], Any], int]  # a call, and the updates that it makes


@dataclass(frozen=True)
class Arguments:
    """Time whole updates and print a table."""

    checkout: Annotated[Path, tyro.conf.Positional]
    """Folder with the public code."""
    size: str = "17M"
    """4.4M, 17M or 109M."""
    sparsity: float = 0.9
    """Of the sparse ones."""
    rounds: int = 5
    """Turns of each."""
    calls: int = 12
    """Per turn."""


def main(arguments: Arguments) -> None:
    """Time and print."""
    sys.path.insert(0, str(arguments.checkout))
    for name in ("wandb", "omegaconf"):
        if importlib.util.find_spec(name) is None:
            sys.modules[name] = ModuleType(name)
            sys.modules[name].OmegaConf = None  # type: ignore[attr-defined]
    size, sparsity = arguments.size, arguments.sparsity
    contenders = {
        f"public code, {sparsity}": public(size, sparsity),
        "public code, dense": public(size, 0.0),
        "kanbatsu, dense": ours(size, 0.0, "dense", "dense"),
        f"kanbatsu, element {sparsity}": ours(size, sparsity, "element", "packed"),
        f"kanbatsu, grouped {sparsity}": ours(size, sparsity, "grouped", "packed"),
    }
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(arguments.rounds + 1):
        for name, (call, updates) in contenders.items():
            started = time.perf_counter()
            for _ in range(arguments.calls):
                call()
            if turn > 0:
                elapsed = time.perf_counter() - started
                times[name].append(1e3 * elapsed / arguments.calls / updates)
    first = statistics.median(next(iter(times.values())))
    print(f"{'':28}{'ms per update':>14}{'x public sparse':>17}")
    for name, of in times.items():
        median = statistics.median(of)
        print(f"{name:28}{median:14.1f}{first / median:17.2f}")


def public(size: str, sparsity: float) -> Contender:
    """One update of the public code's SAC with SimBa and one critic, on random experience."""
    import gymnasium
    from scale_rl.agents.sac.sac_agent import SACAgent

    actor, critic = SIZES[size]
    config: dict[str, Any] = {
        "seed": 0,
        "num_train_envs": 1,
        "max_episode_steps": 1000,
        "normalize_observation": True,
        "temp_target_entropy_coef": -0.5,
        "temp_initial_value": 0.01,
        "temp_learning_rate": 1e-4,
        "temp_weight_decay": 0.0,
        "target_tau": 0.005,
        "gamma": 0.99,
        "n_step": 1,
        "critic_use_cdq": False,
        "mixed_precision": False,
    }
    for name, width, blocks in (("actor", actor, 1), ("critic", critic, 2)):
        config |= {
            f"{name}_block_type": "residual",
            f"{name}_num_blocks": blocks,
            f"{name}_hidden_dim": width,
            f"{name}_learning_rate": 1e-4,
            f"{name}_weight_decay": 1e-2,
            f"{name}_sparsity": sparsity,
        }
    box = gymnasium.spaces.Box
    agent = SACAgent(box(-np.inf, np.inf, (1, OBS_DIM)), box(-1.0, 1.0, (1, ACTION_DIM)), config)
    rng = np.random.default_rng(0)
    batch = {
        "observation": rng.standard_normal((BATCH, OBS_DIM), np.float32),
        "action": rng.uniform(-1.0, 1.0, (BATCH, ACTION_DIM)).astype(np.float32),
        "reward": rng.random(BATCH, np.float32),
        "terminated": np.zeros(BATCH, np.float32),
        "truncated": np.zeros(BATCH, np.float32),
        "next_observation": rng.standard_normal((BATCH, OBS_DIM), np.float32),
    }
    return lambda: agent.update(0, dict(batch)), 1


def ours(size: str, sparsity: float, pattern: str, compute: str) -> Contender:
    """Updates of kanbatsu's SAC, as `kanbatsu bench` times them."""
    call, updates, _ = prepare(Spec("update", size, sparsity, pattern, compute))
    return lambda: jax.block_until_ready(call()), updates


if __name__ == "__main__":
    main(tyro.cli(Arguments))
