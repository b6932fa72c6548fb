# %% [markdown]
# # Prune an agent in five minutes
#
# A model of Stable-Baselines3, four fifths of whose weights are removed before it learns. Nothing
# else in the script changes.

# %%
from stable_baselines3 import SAC

from kanbatsu.integrations.sb3 import prune_policy
from kanbatsu.torch import count

model = SAC("MlpPolicy", "Pendulum-v1", learning_starts=100, seed=0, device="cpu")
prune_policy(model, actor=0.8, critic=0.8, seed=0)
print(count(model.actor))

# %% [markdown]
# The table says what each layer keeps. The last layer of each network stays whole: it is small, and
# the default distribution (`erk`) takes from large layers first.
#
# Train as ever. What was removed stays zero, in the weights, in the target networks and in the
# optimizer.

# %%
model.learn(300)

kept = count(model.critic)
print(f"{kept.kept:,} of {kept.total:,} weights of the critic exist")

# %%
zero = sum(int((weight == 0).sum()) for weight in model.critic.parameters() if weight.dim() == 2)
print(f"{zero:,} entries of its weight matrices are zero after training")
assert zero == kept.total - kept.kept

# %% [markdown]
# Saving and loading need nothing either: the masks come along.

# %%
model.save("pendulum")
again = SAC.load("pendulum", env=model.get_env())
print(count(again.actor))

# %% [markdown]
# Three hundred steps teach nothing; this shows the way, not a result. Whether it helps *your* agent
# is the question of the [next notebook](does_it_help.md).
