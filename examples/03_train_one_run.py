"""Train SAC with a sparse critic on Pendulum, and read what the run left behind."""

import sys
from pathlib import Path

from kanbatsu.agents.sac import SACConfig
from kanbatsu.agents.schedule import TrainConfig
from kanbatsu.files.store import RunFolder
from kanbatsu.nn.config import CriticConfig, NetworkConfig
from kanbatsu.run.carry import run_one
from kanbatsu.run.check import check
from kanbatsu.run.record import Run

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "out/pendulum")
run = Run(  # tiny, to be quick: expect no good policy
    task="gym/Pendulum-v1",
    agent="sac",
    seed=0,
    env_steps=800,
    config=SACConfig(
        actor=NetworkConfig(width=32, blocks=1),
        critic=CriticConfig(width=64, blocks=1, sparsity=0.8),
        learning_rate=1e-3,
    ),
    train=TrainConfig(
        batch_size=64,
        updates_per_interaction=1,
        warmup_interactions=200,
        evaluate_every=400,
        evaluation_episodes=2,
        probe_every=400,
        probe_batch=256,
    ),
)
check(run)  # refuses what cannot work, before anything trains
run_one(run, folder)  # the same call again continues, or returns at once if finished

records = RunFolder(folder).metrics()
critic = records[0]["networks"]["critic"]
print(f"critic: {critic['kept']} of {critic['total']} weights kept")
for record in records:
    if record["kind"] == "evaluation":
        print(f"env steps {record['env_steps']:5}: mean return {record['mean_return']:8.1f}")
    if record["kind"] == "probe":
        dormant, rank = (record["metrics"][f"critic/{name}"] for name in ("dormant_0.1", "srank"))
        print(f"env steps {record['env_steps']:5}: dormant {dormant:.3f}, srank {rank:.0f}")
