# %% [markdown]
# # Export and run
#
# A trained actor becomes a folder of three files that hold the kept weights and nothing else. It
# answers with numpy and one small library, without PyTorch and without JAX.

# %%
import time
from pathlib import Path

import gymnasium
import numpy as np
from stable_baselines3 import SAC

from kanbatsu.deploy import load
from kanbatsu.integrations.sb3 import export_policy, prune_policy

sizes = {"policy_kwargs": {"net_arch": [256, 256]}, "device": "cpu", "seed": 0}
dense = SAC("MlpPolicy", "Pendulum-v1", **sizes)
sparse = SAC("MlpPolicy", "Pendulum-v1", learning_starts=50, **sizes)
prune_policy(sparse, actor=0.9, critic=0.9, seed=0)
sparse.learn(100)

export_policy(dense, "dense", onnx=False)
export_policy(sparse, "sparse", onnx=False)
for name in ("dense", "sparse"):
    files = {path.name: path.stat().st_size for path in sorted(Path(name).iterdir())}
    print(f"{name}: {sum(files.values()):,} bytes, {', '.join(files)}")

# %% [markdown]
# On the machine where it runs, two lines. The policy has its bounds with it, checks its checksums,
# and computes a few known answers again before it gives any.

# %%
policy = load("sparse")
print(policy, policy.low, policy.high)

# %% [markdown]
# It gives the action of `model.predict(observation, deterministic=True)`:

# %%
environment = gymnasium.make("Pendulum-v1")
observation, _ = environment.reset(seed=1)
largest = total = 0.0
for _ in range(200):
    action = policy(observation)
    reference, _ = sparse.predict(observation, deterministic=True)
    largest = max(largest, float(np.abs(action - reference).max()))
    observation, reward, _, _, _ = environment.step(action)
    total += float(reward)
print(f"return {total:.0f}, largest difference from predict {largest:.1e}")
assert largest < 2e-4

# %% [markdown]
# How long an answer takes: medians of single calls, taken in turn on this machine.

# %%
answers = {"predict": lambda obs: sparse.predict(obs, deterministic=True)}
answers |= {f"exported {name}": load(name) for name in ("dense", "sparse")}
times = {name: [] for name in answers}
for _ in range(300):
    for name, answer in answers.items():
        begin = time.perf_counter()
        answer(observation)
        times[name].append(time.perf_counter() - begin)
for name, seconds in times.items():
    print(f"{name:16} {1e6 * np.median(seconds):7.1f} microseconds")

# %% [markdown]
# From here to a policy in service it is [a few stages](../docs/rollout.md): watched, tried on a
# share of the episodes, and with a way back at any moment. Files, checks and what else can be
# exported: [small policies](../docs/deploy.md).
