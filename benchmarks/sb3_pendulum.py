"""Stable-Baselines3's SAC on Pendulum-v1, dense and pruned: returns, zeros, reloading.

    python benchmarks/sb3_pendulum.py                  # continues where it was stopped
    python benchmarks/sb3_pendulum.py --seeds 1 --env-steps 1000 --out /tmp/quick.json

Each run is stored when it ends, with a mean return over 20 episodes at every tenth of the run, the
last probes, and whether pruned weights, their moments and a saved and loaded copy are exact.
"""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from stable_baselines3 import SAC
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.utils import set_random_seed
from update import commit

from kanbatsu.integrations.sb3 import ProbeCallback, prune_policy
from kanbatsu.machine import machine_facts, versions
from kanbatsu.torch import count, masks

HERE = Path(__file__).parent
TASK = "Pendulum-v1"
LEARNING_RATE = 1e-3
"""As the tuned settings of RL Baselines3 Zoo for this task; all else is SAC's default."""
EVALUATION_EPISODES = 20
UPDATES_AFTER_LOADING = 100


@dataclass(frozen=True)
class Arguments:
    """Train dense and sparse agents, evaluate them, check them, store the results."""

    seeds: int = 5
    """Runs of each arm."""
    env_steps: int = 10_000
    """Length of a run."""
    sparsities: tuple[float, ...] = (0.0, 0.8)
    """The arms: the sparsity of actor and critic."""
    out: Path = HERE / "results" / "sb3_pendulum.json"
    """The file that the results go to; the runs in it are not repeated."""


def main(arguments: Arguments) -> None:
    """Run what is missing, and print all."""
    torch.set_num_threads(1)
    stored = json.loads(arguments.out.read_text()) if arguments.out.exists() else {"runs": []}
    for seed in range(arguments.seeds):
        for sparsity in arguments.sparsities:
            wanted = {"sparsity": sparsity, "seed": seed, "env_steps": arguments.env_steps}
            found = [run for run in stored["runs"] if wanted.items() <= run.items()]
            if not found:
                found = [wanted | train(sparsity, seed, arguments.env_steps)]
                stored["runs"] += found
                arguments.out.parent.mkdir(parents=True, exist_ok=True)
                partial = arguments.out.with_suffix(".partial")
                partial.write_text(json.dumps(stored, indent=1, sort_keys=True) + "\n")
                partial.replace(arguments.out)
            print(wanted, {name: found[0][name] for name in ("mean_return", "seconds", "exact")})
    for sparsity in arguments.sparsities:
        means = [run["mean_return"] for run in stored["runs"] if run["sparsity"] == sparsity]
        print(f"S = {sparsity}: mean return {np.mean(means):.1f}, of seeds {np.round(means, 1)}")


def train(sparsity: float, seed: int, env_steps: int) -> dict[str, Any]:
    """Train once, and look at what came out."""
    model = SAC("MlpPolicy", TASK, learning_rate=LEARNING_RATE, seed=seed, device="cpu")
    prune_policy(model, actor=sparsity, critic=sparsity, seed=seed)
    # All episodes at once, an environment each: the same ones for every arm of a seed.
    environment = make_vec_env(TASK, n_envs=EVALUATION_EPISODES, seed=10_000 + 100 * seed)
    every = max(env_steps // 10, 1)
    with tempfile.TemporaryDirectory() as folder:
        evaluation = EvalCallback(
            environment,
            n_eval_episodes=EVALUATION_EPISODES,
            eval_freq=every,
            log_path=folder,
            verbose=0,
        )
        probes = ProbeCallback(every=every)
        started = time.perf_counter()
        model.learn(env_steps, callback=[evaluation, probes])
        seconds = time.perf_counter() - started
    returns = np.array(evaluation.evaluations_results)
    return {
        "env_steps_of_evaluations": list(map(int, evaluation.evaluations_timesteps)),
        "mean_returns": returns.mean(axis=1).round(2).tolist(),
        "mean_return": round(float(returns[-1].mean()), 2),
        "returns": returns[-1].round(2).tolist(),
        "probes": probes.latest,
        "kept": {name: count(getattr(model, name)).kept for name in ("actor", "critic")},
        "total": {name: count(getattr(model, name)).total for name in ("actor", "critic")},
        "exact": check(model),
        "seconds": round(seconds, 1),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine_facts()
        | {"versions": versions(("torch", "stable-baselines3", "gymnasium", "numpy", "jax"))},
    }


def check(model: SAC) -> dict[str, bool]:
    """Whether zeros and moments are exact, and a saved model goes on as this one does."""
    zeros = all(
        not weight[~mask].any()
        for path, mask in masks(model.policy).items()
        for weight in [model.policy.get_parameter(path).detach()]
    )
    moments = [
        of_weight[moment][~mask]
        for network in (model.actor, model.critic)
        for path, mask in masks(network).items()
        for of_weight in [network.optimizer.state[network.get_parameter(path)]]
        for moment in ("exp_avg", "exp_avg_sq")
    ]
    with tempfile.TemporaryDirectory() as folder:
        model.save(f"{folder}/model")
        loaded = SAC.load(f"{folder}/model", device="cpu")
    loaded.replay_buffer = model.replay_buffer
    loaded.set_logger(model.logger)
    before = _same(model, loaded)
    for one in (model, loaded):
        set_random_seed(0)
        one.train(UPDATES_AFTER_LOADING, one.batch_size)
    return {
        "pruned_weights_are_zero": zeros,
        "their_moments_are_zero": not any(moment.any() for moment in moments),
        "loaded_is_the_same": before,
        "and_goes_on_as_the_same": _same(model, loaded),
    }


def _same(one: SAC, other: SAC) -> bool:
    mine, theirs = one.policy.state_dict(), other.policy.state_dict()
    return mine.keys() == theirs.keys() and all(
        torch.equal(mine[name], theirs[name]) for name in mine
    )


if __name__ == "__main__":
    main(tyro.cli(Arguments))
