# %% [markdown]
# # Look inside
#
# A return says that an agent stopped learning, not why. Probes measure a network on transitions
# that it has seen: how many units hardly ever fire (*dormant*), how many directions the last
# features use (*srank*), how long gradients, weights and features are.

# %%
import matplotlib.pyplot as plt
from stable_baselines3 import SAC
from stable_baselines3.common.callbacks import BaseCallback, CallbackList

from kanbatsu.integrations.sb3 import ProbeCallback, prune_policy

# %% [markdown]
# One callback watches both networks while they learn, and logs to TensorBoard what it finds. Here a
# second one keeps it.


# %%
class Keep(BaseCallback):
    """Keeps what the probes found."""

    def __init__(self, probes):
        super().__init__()
        self.probes, self.rows = probes, []

    def _on_step(self):
        if self.probes.latest and self.num_timesteps % self.probes.every == 1:
            self.rows.append((self.num_timesteps - 1, self.probes.latest["critic"]))
        return True


def watch(sparsity):
    """Train SAC for a moment, and return what the critic looked like on the way."""
    model = SAC(
        "MlpPolicy",
        "Pendulum-v1",
        learning_rate=3e-3,
        batch_size=64,
        learning_starts=100,
        policy_kwargs={"net_arch": [64, 64]},
        seed=0,
        device="cpu",
    )
    if sparsity:
        prune_policy(model, actor=sparsity, critic=sparsity, seed=0)
    probes = ProbeCallback(every=100, batch=512)
    keep = Keep(probes)
    model.learn(1_000, callback=CallbackList([probes, keep]))
    return model, keep.rows


runs = {"dense": watch(0.0), "0.9 removed": watch(0.9)}

# %%
figure, axes = plt.subplots(1, 3, figsize=(11, 3), layout="constrained")
for axis, probe in zip(axes, ("dormant_0.1", "srank", "gradient_norm"), strict=True):
    for name, (_, rows) in runs.items():
        axis.plot([at for at, _ in rows], [found[probe] for _, found in rows], label=name)
    axis.set(title=probe, xlabel="env steps")
    axis.spines[["top", "right"]].set_visible(False)
axes[0].legend(frameon=False)
plt.show()

# %% [markdown]
# Any module of PyTorch is measured with one call as well, on a batch of your own:

# %%
import torch

from kanbatsu.torch import probe

model, _ = runs["0.9 removed"]
sample = model.replay_buffer.sample(512)
network = model.critic.qf0
found = probe(network, torch.cat([sample.observations, sample.actions], dim=1))
print({name: round(value, 3) for name, value in found.items() if "/" not in name})

# %% [markdown]
# One seed of a short run shows how probes are read off, and nothing about sparsity. What each of
# them means, and what it cannot say: [dormant ratio](../docs/probes/dormant-ratio.md),
# [srank](../docs/probes/srank.md), and [probes of mechanism](../docs/probes.md).
