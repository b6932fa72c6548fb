"""SimBa beside the MLP in Stable-Baselines3's SAC, dense and pruned: returns, and a figure.

    python benchmarks/sb3_simba.py                       # continues where it was stopped
    python benchmarks/sb3_simba.py --tasks Pendulum-v1 --seeds 1 --env-steps 120 --out x.json

Every arm has the same algorithm, step size, replay and normalisation of observations
(VecNormalize); what differs is the policy. Each run is stored when it ends, with a mean return over
greedy episodes at every tenth of the run. The figure lies beside the results, as SVG.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import gymnasium
import matplotlib as mpl
import numpy as np
import torch
import tyro
from gymnasium.spaces import Box
from stable_baselines3 import SAC
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from update import commit

from kanbatsu.envs.dmc import ACTION_REPEAT, DMCEnvironment
from kanbatsu.integrations.sb3 import SimbaPolicy, prune_policy
from kanbatsu.machine import machine_facts, versions
from kanbatsu.torch import count

mpl.use("svg")
import matplotlib.pyplot as plt

HERE = Path(__file__).parent
ARMS: dict[str, tuple[str, float]] = {
    "MLP 256 x 2": ("MlpPolicy", 0.0),
    "SimBa": (SimbaPolicy, 0.0),
    "SimBa, 0.8 removed": (SimbaPolicy, 0.8),
}
"""Policies, with the sparsity of actor and critic."""
POINTS = 10


@dataclass(frozen=True)
class Arguments:
    """Train SAC with each network on each task, store the returns, draw them."""

    tasks: tuple[str, ...] = ("Pendulum-v1", "dmc/cheetah-run")
    """Tasks, of Gymnasium or, as `dmc/<domain>-<task>`, of DeepMind Control."""
    seeds: int = 5
    """Runs of each arm on each task."""
    env_steps: int | None = None
    """Length of a run; 5,000 on Gymnasium's tasks and 20,000 on DeepMind Control's by default."""
    episodes: int = 5
    """Greedy episodes of each evaluation."""
    threads: int = 1
    """Cores of a run."""
    out: Path = HERE / "results" / "sb3_simba.json"
    """File of the results; the runs in it are not repeated."""


class FromDMC(gymnasium.Env):
    """A task of DeepMind Control as Gymnasium's environments are, two env steps per action."""

    def __init__(self, task: str) -> None:
        self._task = DMCEnvironment(task)
        self._steps = 0
        (size,) = self._task.spec.obs_shape
        self.observation_space = Box(-np.inf, np.inf, (size,), np.float32)
        self.action_space = Box(-1.0, 1.0, (self._task.spec.action_dim,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode."""
        super().reset(seed=seed)
        return self._task.reset(int(self.np_random.integers(2**31))), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Act once."""
        observation, reward, terminated, truncated = self._task.step(action)
        return observation, reward, terminated, truncated, {}


def environment(task: str) -> VecNormalize:
    """One environment, with normalised observations."""

    def make() -> gymnasium.Env:
        return Monitor(FromDMC(task) if task.startswith("dmc/") else gymnasium.make(task))

    return VecNormalize(DummyVecEnv([make]), norm_reward=False)


class Evaluation(BaseCallback):
    """Evaluates with the statistics of training, now and then, in an environment of its own."""

    def __init__(self, task: str, seed: int, every: int, episodes: int) -> None:
        super().__init__()
        self._env = environment(task)
        self._env.training = False
        self._seed, self._every, self._episodes = seed, every, episodes
        self.means: list[float] = []

    def _on_step(self) -> bool:
        if self.num_timesteps % self._every == 0:
            training: Any = self.model.get_vec_normalize_env()
            self._env.obs_rms = training.obs_rms
            self._env.seed(10_000 + self._seed)
            mean, _ = evaluate_policy(self.model, self._env, self._episodes)
            self.means.append(round(float(mean), 2))  # type: ignore[arg-type]
        return True


def train(task: str, arm: str, seed: int, env_steps: int, episodes: int) -> dict[str, Any]:
    """Train once."""
    policy, sparsity = ARMS[arm]
    repeat = ACTION_REPEAT if task.startswith("dmc/") else 1
    interactions = env_steps // repeat
    model = SAC(policy, environment(task), learning_rate=3e-4, seed=seed, device="cpu")
    prune_policy(model, actor=sparsity, critic=sparsity, seed=seed)
    evaluation = Evaluation(task, seed, max(interactions // POINTS, 1), episodes)
    started = time.perf_counter()
    model.learn(interactions, callback=evaluation)
    return {
        "mean_returns": evaluation.means,
        "kept": {name: count(getattr(model, name)).kept for name in ("actor", "critic")},
        "seconds": round(time.perf_counter() - started, 1),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine_facts()
        | {"versions": versions(("torch", "stable-baselines3", "gymnasium", "numpy", "jax"))},
    }


def draw(runs: list[dict[str, Any]], file: Path) -> None:
    """Draw the mean over seeds, and every seed, of each arm on each task."""
    tasks = list(dict.fromkeys(run["task"] for run in runs))
    figure, axes = plt.subplots(1, len(tasks), figsize=(5.0 * len(tasks), 3.6), squeeze=False)
    for axis, task in zip(axes[0], tasks, strict=True):
        for index, arm in enumerate(ARMS):
            curves = [r["mean_returns"] for r in runs if r["task"] == task and r["arm"] == arm]
            if not curves:
                continue
            lengths = [r["env_steps"] for r in runs if r["task"] == task and r["arm"] == arm]
            x = np.linspace(0, lengths[0], len(curves[0]) + 1)[1:]
            for curve in curves:
                axis.plot(x, curve, color=f"C{index}", linewidth=0.6, alpha=0.5)
            axis.plot(x, np.mean(curves, axis=0), color=f"C{index}", linewidth=2, label=arm)
        axis.set(title=task, xlabel="env steps", ylabel="mean return")
    axes[0][0].legend(frameon=False)
    figure.tight_layout()
    figure.savefig(file)
    plt.close(figure)


def store(file: Path, write: Callable[[Path], Any]) -> None:
    """Replace a file at once."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    write(partial)
    partial.replace(file)


def main(arguments: Arguments) -> None:
    """Run what is missing, print all, draw all."""
    torch.set_num_threads(arguments.threads)
    out = arguments.out
    stored = json.loads(out.read_text()) if out.exists() else {"runs": []}
    for task in arguments.tasks:
        env_steps = arguments.env_steps or (20_000 if task.startswith("dmc/") else 5_000)
        for seed in range(arguments.seeds):
            for arm in ARMS:
                wanted = {"task": task, "arm": arm, "seed": seed, "env_steps": env_steps}
                found = [run for run in stored["runs"] if wanted.items() <= run.items()]
                if not found:
                    found = [wanted | train(task, arm, seed, env_steps, arguments.episodes)]
                    stored["runs"] += found
                    text = json.dumps(stored, indent=1, sort_keys=True) + "\n"
                    store(out, lambda file, text=text: file.write_text(text))
                print(wanted, found[0]["mean_returns"][-1], f"{found[0]['seconds']} s", flush=True)
    draw(stored["runs"], out.with_suffix(".svg"))


if __name__ == "__main__":
    main(tyro.cli(Arguments))
