"""Stable-Baselines3's SAC on Pendulum, dense and pruned with one line, watched with one more.

05_sb3_sac.py [env steps]; then: tensorboard --logdir out/pendulum
"""

import sys

from stable_baselines3 import SAC
from stable_baselines3.common.evaluation import evaluate_policy

from kanbatsu.integrations.sb3 import ProbeCallback, prune_policy
from kanbatsu.torch import count

ENV_STEPS = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000

for sparsity in (0.0, 0.8):
    model = SAC(
        "MlpPolicy", "Pendulum-v1", learning_rate=1e-3, seed=0, tensorboard_log="out/pendulum"
    )
    prune_policy(model, actor=sparsity, critic=sparsity)  # before learn
    probes = ProbeCallback(every=max(ENV_STEPS // 10, 100))
    model.learn(ENV_STEPS, callback=probes, tb_log_name=f"sparsity{sparsity}")

    model.save("out/model")
    model = SAC.load("out/model", env=model.get_env())  # as ever: the masks come along
    mean_return, _ = evaluate_policy(model, model.get_env(), n_eval_episodes=5)
    critic, health = count(model.critic), probes.latest["critic"]
    print(
        f"sparsity {sparsity}: {critic.kept:,} of {critic.total:,} weights of the critic kept, "
        f"mean return {mean_return:.1f}, "
        f"dormant {health['dormant_0.1']:.3f}, srank {health['srank']:.0f}"
    )
