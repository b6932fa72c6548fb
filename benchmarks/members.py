"""Members against throughput: how many agents one device trains side by side, up to its memory.

    python benchmarks/members.py                                # on any device
    python benchmarks/members.py --only "sac update 17M" --most 8

Three kinds of program, each `vmap`ped over members with masks of their own: whole runs of Stream Q
and of SAC on the device, simulator included, and updates of SAC at the sizes of the paper on
batches of dog-stand's shape. Each program is compiled in a process of its own; when all are
compiled, they are timed one after the other. A row is one program at one number of members, or says
that it did not fit into the memory. A line is added to results/members.jsonl.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import tyro

from kanbatsu.agents.sac import SAC, SACConfig
from kanbatsu.agents.schedule import TrainConfig
from kanbatsu.agents.stream_q import StreamQ, StreamQConfig
from kanbatsu.envs.classic import CartPole, Pendulum
from kanbatsu.machine import machine_facts
from kanbatsu.nn.config import CriticConfig, NetworkConfig
from kanbatsu.train.scan import make_train
from kanbatsu.types import Spec, Transition

HERE = Path(__file__).resolve().parent
DOG = Spec((223,), action_dim=38, episode_length=500)
BATCH, PER_TURN, SPARSITY = 256, 2, 0.8


class Program(NamedTuple):
    """What is timed."""

    call: Any
    """Compiled for a number of members."""
    arguments: Callable[[], tuple[Any, ...]]
    """Makes what it is called with, in the device's memory."""
    again: Callable[[tuple[Any, ...], Any], tuple[Any, ...]]
    """Makes the arguments of the next call from those of the last one and what it returned."""
    steps: int
    """Updates, or decisions, of one member in one call."""


def copies(tree: Any, members: int) -> Any:
    """Repeat every array along a new first axis."""
    return jax.tree.map(lambda x: jnp.repeat(x[None], members, axis=0), tree)


def whole_runs(agent: Any, train: Callable[..., Any], steps: int, members: int) -> Program:
    """Train from the first decision to the last."""
    masks = agent.masks(jax.random.key(0))

    def arguments() -> tuple[Any, ...]:
        return jax.random.split(jax.random.key(1), members), copies(masks, members)

    shapes = jax.eval_shape(arguments)
    call = jax.jit(jax.vmap(lambda key, masks: train(key, masks)[1])).lower(*shapes).compile()
    return Program(call, arguments, lambda last, _: last, steps)


def stream_q(members: int) -> Program:
    """Stream Q on cart-pole, 5,000 decisions."""
    agent = StreamQ(CartPole.spec, StreamQConfig())
    train = make_train(agent, CartPole(), interactions=5_000, points=1)
    return whole_runs(agent, train, 5_000, members)


def sac_run(members: int) -> Program:
    """Small SAC on Pendulum, 1,000 decisions, of which 900 are learned from."""
    config = SACConfig(
        actor=NetworkConfig(width=64, blocks=1, sparsity=SPARSITY),
        critic=CriticConfig(width=128, blocks=1, sparsity=SPARSITY),
    )
    agent = SAC(Pendulum.spec, config)
    schedule = TrainConfig(batch_size=128, updates_per_interaction=1, warmup_interactions=100)
    train = make_train(agent, Pendulum(), interactions=1_000, points=1, schedule=schedule)
    return whole_runs(agent, train, 1_000, members)


def sac_updates(actor: int, critic: int, members: int) -> Program:
    """Two updates of SimBa's SAC on batches of dog-stand's shape."""
    config = SACConfig(
        actor=NetworkConfig(width=actor, sparsity=SPARSITY),
        critic=CriticConfig(width=critic, sparsity=SPARSITY),
    )
    agent = SAC(DOG, config)

    def arguments() -> tuple[Any, ...]:
        keys = jax.random.split(jax.random.key(2), 5)
        lead = (members, PER_TURN, BATCH)
        obs, after = (jax.random.normal(key, (*lead, DOG.obs_dim)) for key in keys[:2])
        action = jax.random.uniform(keys[2], (*lead, DOG.action_dim), minval=-1.0)
        reward, no = jax.random.uniform(keys[3], lead), jnp.zeros(lead, bool)
        state = copies(agent.init(jax.random.key(0), masks), members)
        batches = Transition(obs, action, reward, no, no, after)
        return state, batches, jax.random.split(keys[4], members)

    masks = agent.masks(jax.random.key(0))
    program = jax.jit(jax.vmap(agent.update), donate_argnums=0)
    call = program.lower(*jax.eval_shape(arguments)).compile()
    return Program(call, arguments, lambda last, out: (out[0], *last[1:]), PER_TURN)


PROGRAMS: dict[str, tuple[Callable[[int], Program], tuple[int, ...]]] = {
    "stream_q jax/cartpole": (stream_q, (1, 8, 512, 32768)),
    "sac jax/pendulum": (sac_run, (1, 8, 512)),
    "sac update 4M": (lambda members: sac_updates(128, 512, members), (1, 8, 64, 384)),
    "sac update 17M": (lambda members: sac_updates(256, 1024, members), (1, 8, 96)),
    "sac update 109M": (lambda members: sac_updates(640, 2560, members), (1, 16)),
}


@dataclass(frozen=True)
class Arguments:
    """Time programs at growing numbers of members."""

    only: tuple[str, ...] = tuple(PROGRAMS)
    """Which programs."""
    most: int = 1 << 30
    """Members at most."""
    seconds: float = 2.0
    """To time each for, at least two calls."""
    results: Path = HERE / "results" / "members.jsonl"
    """Where a line is added."""


def measure(program: Program, members: int, seconds: float) -> dict[str, Any]:
    """Call until the time is up; the first call is not timed."""
    arguments = program.arguments()
    out = jax.block_until_ready(program.call(*arguments))
    calls, began = 0, time.perf_counter()
    while calls < 2 or time.perf_counter() - began < seconds:
        arguments = program.again(arguments, out)
        out = jax.block_until_ready(program.call(*arguments))
        calls += 1
    per_step = (time.perf_counter() - began) / (calls * program.steps)
    needs = program.call.memory_analysis()
    return {
        "microseconds_per_step": 1e6 * per_step,
        "microseconds_per_member": 1e6 * per_step / members,
        "steps_per_second": members / per_step,
        "calls": calls,
        "bytes": needs.argument_size_in_bytes + needs.temp_size_in_bytes,
    }


def child(name: str, members: int, seconds: float, parent: Any) -> None:
    """Compile and say so; measure when told to, and say what came out."""
    row: dict[str, Any] = {"name": name, "members": members}
    try:
        began = time.perf_counter()
        program = PROGRAMS[name][0](members)
        row["compile_seconds"] = time.perf_counter() - began
        parent.send(row)
        parent.recv()
        parent.send(row | measure(program, members, seconds))
    except jax.errors.JaxRuntimeError as error:
        parent.send(row | {"error": str(error).partition("\n")[0][:200]})


def main(arguments: Arguments) -> None:
    """Compile, measure, print, and store."""
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # the processes share the memory
    spawn = multiprocessing.get_context("spawn")
    children = []
    for name in arguments.only:
        for members in PROGRAMS[name][1]:
            if members <= arguments.most:
                pipe, end = spawn.Pipe()
                told = (name, members, arguments.seconds, end)
                children.append((pipe, spawn.Process(target=child, args=told)))
                children[-1][1].start()
    rows = [pipe.recv() for pipe, _ in children]  # all are compiled, or will not be
    for index, (pipe, process) in enumerate(children):
        if "error" not in rows[index]:
            pipe.send("go")
            rows[index] = pipe.recv()
        process.join()  # and lets go of the device's memory
        print(json.dumps(rows[index]), flush=True)
    record = {"date": datetime.now(UTC).date().isoformat(), "rows": rows}
    with arguments.results.open("a") as file:
        file.write(json.dumps(record | {"machine": machine_facts()}) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Arguments))
