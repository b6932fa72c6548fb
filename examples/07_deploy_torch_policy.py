"""A pruned policy from PyTorch to a few kilobytes that run without PyTorch and without JAX."""

from pathlib import Path

import numpy as np
from stable_baselines3 import SAC

from kanbatsu.deploy import load
from kanbatsu.integrations.sb3 import export_policy, prune_policy

for sparsity in (0.0, 0.8):
    model = SAC("MlpPolicy", "Pendulum-v1", seed=0, learning_starts=10)
    prune_policy(model, actor=sparsity, critic=sparsity)
    model.learn(20)  # too short to be any good

    folder = Path(f"out/policy{sparsity}")
    export_policy(model, folder)  # any nn.Sequential: kanbatsu.torch.deploy.export_policy

    policy = load(folder)  # from here on numpy is enough: see docs/deploy.md
    observations = np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32)
    actions, _ = model.predict(observations, deterministic=True)
    size = (folder / "policy.safetensors").stat().st_size
    print(
        f"sparsity {sparsity}: {size:,} bytes, "
        f"largest difference of an action {np.abs(policy(observations) - actions).max():.1e}"
    )
