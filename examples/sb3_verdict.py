"""A training script of Stable-Baselines3 as it is, compared dense and sparse up to a verdict.

kanbatsu study examples/sb3_verdict.toml --out out/sb3      (trains with `train` below)
python examples/sb3_verdict.py out/sb3-logs                 (trains by itself, then:)
kanbatsu report --monitor out/sb3-logs --decision seeds=3
"""

import json
import sys
from pathlib import Path

import gymnasium
from stable_baselines3 import PPO
from stable_baselines3.common.monitor import Monitor

from kanbatsu.integrations.sb3 import prune_policy
from kanbatsu.torch import count


def train(task: str, seed: int, env_steps: int, folder: Path, sparsity: float = 0.0) -> None:
    """Train PPO and leave what its Monitor writes; nothing here knows of a study.

    Args:
        task: Task as the study names it.
        seed: Seed of the training.
        env_steps: Env steps of the training.
        folder: Folder for whatever the training writes.
        sparsity: Share of the weights of both networks to remove.
    """
    env = Monitor(gymnasium.make(task.removeprefix("gym/")), str(folder))
    model = PPO("MlpPolicy", env, n_steps=256, seed=seed, device="cpu")
    prune_policy(model, actor=sparsity, critic=sparsity, seed=seed)
    model.learn(env_steps)
    env.close()
    counted = count(model.policy)
    networks = {"policy": {"kept": counted.kept, "total": counted.total}}
    (folder / "networks.json").write_text(json.dumps(networks))


if __name__ == "__main__":
    for arm, sparsity in (("dense", 0.0), ("sparse", 0.8)):
        for seed in range(3):
            folder = Path(sys.argv[1], arm, f"seed_{seed}")
            folder.mkdir(parents=True)
            train("gym/CartPole-v1", seed, 2_000, folder, sparsity)
