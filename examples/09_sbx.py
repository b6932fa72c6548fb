"""SBX's SAC on Pendulum, dense against sparse: one line before `learn`, one to look inside.

Usage: python 09_sbx.py [env steps] [sparsity ...]
"""

import sys

from sbx import SAC
from stable_baselines3.common.evaluation import evaluate_policy

from kanbatsu.integrations.sbx import count, probe, prune_policy

env_steps = int(sys.argv[1]) if len(sys.argv) > 1 else 5_000
for sparsity in map(float, sys.argv[2:] or ("0", "0.8")):
    model = SAC("MlpPolicy", "Pendulum-v1", seed=0, buffer_size=10_000)
    prune_policy(model, actor=sparsity, critic=sparsity)  # before `learn`; 0 changes nothing
    model.learn(env_steps)

    counted = count(model)
    batch = model.replay_buffer.sample(1024)
    health = probe(model, batch.observations.numpy(), batch.actions.numpy())
    mean, _ = evaluate_policy(model, model.get_env(), n_eval_episodes=2)
    print(f"sparsity {sparsity}: {counted.kept:,} of {counted.total:,} weights kept")
    print(f"  mean return {mean:.0f}, srank of the critic {health['critic/srank']:.0f}")
    print(f"  dormant units of the critic: {health['critic/dormant_0.1']:.1%}")
