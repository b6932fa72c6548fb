"""What each probe of mechanism costs, by network: seconds of one call, and of compiling it.

    python benchmarks/mechanism.py                       # all sizes
    python benchmarks/mechanism.py --only "pqn 128 x 1"

Batches are of the sizes that runs use. Processor seconds are of all threads together, so that a
busy machine does not change them much. A line is added to results/mechanism.jsonl.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import tyro

from kanbatsu.agents.common import one_of_each, with_dense_networks
from kanbatsu.agents.pqn import PQN, PQNConfig
from kanbatsu.agents.sac import SAC, SACConfig
from kanbatsu.machine import machine_facts
from kanbatsu.nn.config import CriticConfig, NetworkConfig
from kanbatsu.nn.normed import NormedNetworkConfig
from kanbatsu.probes.mechanism import MEASURES, First, like, measure
from kanbatsu.types import Spec, Transition

HERE = Path(__file__).resolve().parent
HUMANOID = Spec((67,), action_dim=21, episode_length=500)
BREAKOUT = Spec((10, 10, 4), action_dim=3, obs_dtype="uint8", discrete=True)


def sac(width: int, blocks: int, sparsity: float) -> Callable[[], Any]:
    """Return what makes a SAC agent with a SimBa critic of a size."""
    critic = CriticConfig(width=width, blocks=blocks, sparsity=sparsity)
    actor = NetworkConfig(width=128, blocks=1, sparsity=sparsity)
    return lambda: SAC(HUMANOID, SACConfig(actor, critic))


def pqn(blocks: int, sparsity: float) -> Callable[[], Any]:
    """Return what makes a PQN agent of width 128."""
    return lambda: PQN(BREAKOUT, PQNConfig(NormedNetworkConfig(128, blocks, sparsity=sparsity)))


AGENTS = {
    "pqn 128 x 1": pqn(1, 0.0),
    "pqn 128 x 1, S = .9": pqn(1, 0.9),
    "pqn 128 x 16, S = .9": pqn(16, 0.9),
    "sac, critic 128 x 2": sac(128, 2, 0.0),
    "sac, critic 256 x 2": sac(256, 2, 0.0),
    "sac, critic 256 x 2, S = .9": sac(256, 2, 0.9),
    "sac, critic 1024 x 2": sac(1024, 2, 0.0),
    "sac, critic 512 x 2": sac(512, 2, 0.0),
    "sac, critic 512 x 2, S = .9": sac(512, 2, 0.9),
}


@dataclass(frozen=True)
class Arguments:
    """Measure what probes of mechanism cost."""

    only: tuple[str, ...] = ()
    """Names of agents to measure; all by default."""
    probes: tuple[str, ...] = tuple(MEASURES)
    """Probes to measure; all by default."""
    batch: int = 2_048
    """Transitions of a batch, as train.probe_batch."""


def batch_of(spec: Spec, n: int) -> Transition:
    """Return random transitions."""
    key = jax.random.key(0)
    obs = jax.random.normal(key, (n, *spec.obs_shape))
    if spec.obs_dtype == "uint8":
        obs = (obs > 2.0).astype(jnp.uint8) * jnp.uint8(255)
    no = jnp.zeros(n, bool)
    action = jax.random.uniform(key, (n, spec.action_dim), minval=-1.0)
    return Transition(obs, action, jnp.ones(n), no, no, obs)


def cost(agent: Any, name: str, batch: Transition) -> dict[str, float]:
    """Time one probe of all networks of an agent."""
    key = jax.random.key(0)
    state = agent.init(key)
    plain = type(agent)(agent.spec, with_dense_networks(agent.config))
    dense, networks = (one_of_each(own.networks(own.init(key))) for own in (plain, agent))
    first = {name: First(dense[name], like(networks[name], dense[name])) for name in dense}
    few = jax.tree.map(lambda x: x[: MEASURES[name].samples], batch)

    def program(state: Any, first: Any, few: Transition) -> Any:
        return measure(name, agent.subjects(state, few, key), first, key)

    started = time.perf_counter()
    compiled = jax.jit(program).lower(state, first, few).compile()
    built = time.perf_counter() - started
    jax.block_until_ready(compiled(state, first, few))
    started, processor = time.perf_counter(), time.process_time()
    jax.block_until_ready(compiled(state, first, few))
    return {
        "compile_seconds": built,
        "seconds": time.perf_counter() - started,
        "processor_seconds": time.process_time() - processor,
        "temporary_mb": compiled.memory_analysis().temp_size_in_bytes / 1e6,
    }


def main() -> None:
    """Print a row per agent and probe, and store all."""
    given = tyro.cli(Arguments)
    rows = []
    for label, make in AGENTS.items():
        if given.only and label not in given.only:
            continue
        agent = make()
        batch = batch_of(agent.spec, given.batch)
        for name in given.probes:
            row = {"agent": label, "probe": name} | cost(agent, name, batch)
            rows.append(row)
            print(
                f"{label:30} {name:14} {row['processor_seconds']:8.2f} s of processor "
                f"{row['temporary_mb']:8.0f} MB  compile {row['compile_seconds']:6.1f} s",
                flush=True,
            )
    record = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "rows": rows}
    with (HERE / "results" / "mechanism.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(record | {"machine": machine_facts()}) + "\n")


if __name__ == "__main__":
    main()
