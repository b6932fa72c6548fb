"""What guard and shadow cost per action, in microseconds, beside the bare policy.

    .venv/bin/python benchmarks/rollout_overhead.py [--calls 1000000]

The policy is an exported actor of 17 observations and 6 actions (SimBa, width 128, one block, four
fifths removed in groups). Every call is timed alone, and so is the clock itself, which is left in.
Where the candidate has a thread or a process of its own, a tenth of the calls are made. It writes
benchmarks/results/rollout_overhead.json.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from kanbatsu.deploy import load
from kanbatsu.rollout.config import CandidateSettings, GuardSettings
from kanbatsu.rollout.guard import Guard
from kanbatsu.rollout.policy.ask import Inline, Threaded
from kanbatsu.rollout.policy.remote import Remote, RemoteAsked
from kanbatsu.rollout.shadow import Shadow
from kanbatsu.rollout.sinks import Background

RESULT = Path(__file__).parent / "results" / "rollout_overhead.json"
EXPORT = """
import sys, jax
from kanbatsu.agents.sac import SAC, SACConfig
from kanbatsu.deploy import export_policy
from kanbatsu.nn.config import NetworkConfig
from kanbatsu.types import Spec
actor = NetworkConfig(width=128, blocks=1, sparsity=0.8, pattern="grouped")
agent = SAC(Spec((17,), action_dim=6, episode_length=1000), SACConfig(actor=actor))
state = agent.init(jax.random.key(0))
export_policy(state.actor, state.normaliser, sys.argv[1], low=-1.0, high=1.0)
"""
"""JAX stays in a process of its own: its threads would disturb the clock."""


def measure(name: str, act: Callable[[np.ndarray], object], calls: int) -> dict[str, object]:
    """Time single calls on observations that change; print and return their quantiles."""
    generator = np.random.default_rng(0)
    observations = generator.normal(0.0, 1.0, (1024, 17)).astype(np.float32)
    for obs in observations:
        act(obs)
    spent = np.empty(calls)
    gc.collect()
    clock = time.perf_counter
    for call in range(calls):
        obs = observations[call % 1024]
        began = clock()
        act(obs)
        spent[call] = clock() - began
    spent *= 1e6
    p50, p99 = np.quantile(spent, (0.5, 0.99))
    print(
        f"{name:34} p50 {p50:8.1f}  p99 {p99:8.1f}  max {spent.max():10.1f} us  ({calls:,} calls)"
    )
    most = float(spent.max())
    return {
        "what": name,
        "calls": calls,
        "p50_us": float(p50),
        "p99_us": float(p99),
        "max_us": most,
    }


def processor() -> str:
    """Return the name of this machine's processor."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown"


def main() -> None:
    """Measure, print, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=1_000_000)
    calls = parser.parse_args().calls
    folder = tempfile.mkdtemp()
    subprocess.run([sys.executable, "-c", EXPORT, folder], check=True)
    policy = load(folder)
    limits = GuardSettings(
        obs_dim=17,
        low=(-1.0,) * 6,
        high=(1.0,) * 6,
        safe_action=(0.0,) * 6,
        slew=(2.0,) * 6,
        deadline_s=0.1,
    )
    candidate = CandidateSettings(folder, hang_s=10.0)
    load_before = os.getloadavg()[0]
    with Background(lambda record: None) as sink:
        guard = Guard(limits, policy, sink, action_every=100)
        inline = Inline(policy)
        rows = [
            measure("policy", policy, calls),
            measure("policy + guard", lambda o: guard.act(inline, "candidate", o), calls),
        ]
        shadow = Shadow(candidate, limits, sink, every=100)
        shadow.remote.wait_until_ready()

        def shown(obs: np.ndarray) -> None:
            shadow.show(obs, guard.act(inline, "incumbent", obs).action)

        rows.append(measure("policy + guard + shadow", shown, calls))
        shadow.close()
        tally = shadow.tally
        threaded = Threaded(policy)
        rows.append(
            measure(
                "policy in a thread + guard",
                lambda o: guard.act(threaded, "candidate", o),
                calls // 10,
            )
        )
        threaded.close()
        remote = Remote(candidate)
        remote.wait_until_ready()
        asked = RemoteAsked(remote)
        rows.append(
            measure(
                "policy in a process + guard",
                lambda o: guard.act(asked, "candidate", o),
                calls // 10,
            )
        )
        asked.close()
    result = {
        "machine": {"processor": processor(), "cores": os.cpu_count()},
        "load_average": {"before": load_before, "after": os.getloadavg()[0]},
        "versions": {"python": sys.version.split()[0], "numpy": np.__version__},
        "rows": rows,
        "shadow": {"shown": tally.shown, "dropped": tally.dropped, "answers": tally.answers},
        "triggers": {name: count for name, count in guard.counts.items() if count},
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
