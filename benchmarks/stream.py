"""Decisions per second of streaming agents: dense and sparse, beside the environment's own cost.

    python benchmarks/stream.py                         # every width
    python benchmarks/stream.py --widths 128 --tasks jax/cartpole

A decision is one env step, one update of every network, normalisation, and the choice of the next
action. Each contender has its turn in every round; the row is the median over the rounds. The last
contender is a population: several seeds side by side, with the decisions of all of them counted.
"""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from kanbatsu.agents import AGENTS
from kanbatsu.agents.schedule import StreamTrainConfig
from kanbatsu.envs.functional import functional_of
from kanbatsu.envs.make import make
from kanbatsu.envs.timed import add_time
from kanbatsu.envs.vector import VectorEnvironment
from kanbatsu.machine import machine_facts
from kanbatsu.nn.stream import StreamNetworkConfig
from kanbatsu.train.device import DeviceMember, train_on_device
from kanbatsu.train.host import HostMember, train_on_host
from kanbatsu.train.turn import Stopwatch, Turn

HERE = Path(__file__).parent
KINDS: dict[str, Any] = {
    "dense": {},
    "masked": {"compute": "masked"},
    "packed": {"compute": "packed"},
}
DISCRETE = ("jax/cartpole", "gym/CartPole-v1")


@dataclass(frozen=True)
class Arguments:
    """Time whole decisions of streaming agents, print a table, append a line to a file."""

    tasks: tuple[str, ...] = ("gym/HalfCheetah-v5", "jax/cartpole")
    """Continuous ones are for Stream AC, jax/cartpole for Stream Q."""
    widths: tuple[int, ...] = (128, 256, 512, 1024, 2048)
    """Units per hidden layer, of two."""
    sparsity: float = 0.9
    """Of the masked and the packed networks."""
    members: int = 10
    """Seeds of the population, which is dense and has the first width."""
    rounds: int = 5
    """How often each contender has its turn."""
    json_out: Path = HERE / "results" / "stream.jsonl"
    """The file that the line goes to."""


@dataclass(frozen=True)
class Row:
    """What one contender did."""

    task: str
    contender: str
    width: int
    decisions_per_second: float
    lowest: float
    highest: float


def main(arguments: Arguments) -> None:
    """Time, print, append."""
    load = os.getloadavg()[0]
    contenders: dict[tuple[str, str, int], Callable[[], float]] = {}
    for task in arguments.tasks:
        contenders[task, "environment", 0] = environment_alone(task)
        for width, kind in itertools.product(arguments.widths, KINDS):
            contenders[task, kind, width] = whole_decisions(task, kind, width, arguments.sparsity)
        name = f"dense, {arguments.members} seeds"
        contenders[task, name, arguments.widths[0]] = population(
            task, arguments.widths[0], arguments.members
        )
    for turn in contenders.values():
        turn()  # compiles
    speeds: dict[tuple[str, str, int], list[float]] = {name: [] for name in contenders}
    order = np.random.default_rng(0)
    for _ in range(arguments.rounds):
        for index in order.permutation(len(contenders)):
            name = list(contenders)[index]
            speeds[name].append(contenders[name]())
    rows = [Row(*name, float(np.median(x)), min(x), max(x)) for name, x in speeds.items()]
    show(rows)
    record = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine_facts(),
        "load_before": load,
        "sparsity": arguments.sparsity,
        "rounds": arguments.rounds,
        "rows": [asdict(row) for row in rows],
    }
    arguments.json_out.parent.mkdir(parents=True, exist_ok=True)
    with arguments.json_out.open("a") as file:
        file.write(json.dumps(record) + "\n")


def environment_alone(task: str) -> Callable[[], float]:
    """Return a function that steps the simulator at random and returns steps per second."""
    environment = build(task)
    if (functional := functional_of(environment)) is not None:
        decisions = 20_000
        actions = jax.nn.one_hot(np.arange(decisions) % 2, functional.spec.action_dim)

        def step(carry: Any, draws: Any) -> Any:
            action, key = draws
            world, after = functional.step(carry, action, key)
            ended = after.terminated | after.truncated
            world = jax.lax.cond(ended, lambda: functional.reset(key)[0], lambda: world)
            return world, after.reward

        keys = jax.random.split(jax.random.key(0), decisions)
        # The last state is returned too: where every reward is 1, nothing else needs the simulator.
        run = jax.jit(lambda world: jax.lax.scan(step, world, (actions, keys)))
        world, _ = functional.reset(jax.random.key(0))
        return lambda: _per_second(lambda: jax.block_until_ready(run(world)), decisions)

    vector, decisions = VectorEnvironment([environment], seed=0), 500
    vector.reset()
    moves = np.random.default_rng(0).uniform(-1, 1, (decisions, 1, vector.spec.action_dim))
    moves = moves.astype(np.float32)

    def play() -> None:
        for move in moves:
            vector.step(move)

    return lambda: _per_second(play, decisions)


def whole_decisions(task: str, kind: str, width: int, sparsity: float) -> Callable[[], float]:
    """Return a function that acts and learns for a while and returns decisions per second."""
    agent = agent_of(task, kind, width, sparsity)
    decisions = max(50, min(1_000, 1_000 * 512**2 // width**2))
    (turns, each) = train(agent, task, decisions, members=1)
    return lambda: _per_second(lambda: [next(turns) for _ in range(decisions // each)], decisions)


def population(task: str, width: int, members: int) -> Callable[[], float]:
    """Return the same for several seeds side by side; their decisions are added up."""
    agent = agent_of(task, "dense", width, 0.0)
    decisions = max(50, min(1_000, 1_000 * 512**2 // width**2)) // 4
    turns, each = train(agent, task, decisions, members)
    done = decisions * members
    return lambda: _per_second(lambda: [next(turns) for _ in range(decisions // each)], done)


def train(agent: Any, task: str, decisions: int, members: int) -> tuple[Iterator[Turn], int]:
    """Begin to train without an end; return the loop, and the decisions of each of its turns."""
    schedule = StreamTrainConfig(
        log_every=decisions,
        probe_every=decisions,
        evaluate_every=decisions,
        checkpoint_every=decisions,
    )
    functional = functional_of(build(task))
    if functional is not None:
        on_device = [
            DeviceMember(agent, schedule, functional, seed, Stopwatch(), 10**9)
            for seed in range(members)
        ]
        return train_on_device(on_device, 10**9), decisions
    on_host = [
        HostMember(agent, schedule, VectorEnvironment([build(task)], seed), seed, Stopwatch())
        for seed in range(members)
    ]
    return train_on_host(on_host, 10**9), 1


def agent_of(task: str, kind: str, width: int, sparsity: float) -> Any:
    """Return the agent for a task, its networks all of one width and sparsity."""
    entry = AGENTS["stream_q" if task in DISCRETE else "stream_ac"]
    network = StreamNetworkConfig(width=width, **KINDS[kind])
    if kind != "dense":
        network = replace(network, sparsity=sparsity)
    config = entry.config()
    named = {name: network for name in ("actor", "critic") if hasattr(config, name)}
    return entry.agent(build(task).spec, replace(config, **named))


def build(task: str) -> Any:
    """Return the task's environment, with the time."""
    return add_time(make(task, discrete=task in DISCRETE))


def _per_second(work: Callable[[], Any], decisions: int) -> float:
    started = time.perf_counter()
    work()
    return decisions / (time.perf_counter() - started)


def show(rows: list[Row]) -> None:
    """Print a table."""
    table = Table(box=SIMPLE)
    for column in ("task", "contender", "width", "decisions/s", "lowest", "highest"):
        table.add_column(column, justify="left" if column in ("task", "contender") else "right")
    for row in rows:
        speeds = (f"{x:,.0f}" for x in (row.decisions_per_second, row.lowest, row.highest))
        table.add_row(row.task, row.contender, str(row.width or ""), *speeds)
    Console().print(table)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
