"""What a parameter of kept values alone gains in PyTorch: gradient steps of SB3's SAC, and bytes.

    python benchmarks/torch_storage.py
    python benchmarks/torch_storage.py --sizes 1024x2 --no-table --rounds 20

`element` and `grouped` hold dense parameters with zeros, `kept element` and `kept grouped` the
values that they keep (`storage="kept"`); all with `compute="auto"`. An update is one gradient step
of Stable-Baselines3's SAC with its own networks, with a fused Adam and with the library's default.
Bytes are those of parameters, targets, gradients and moments. The table is a training step
(forward, backward, fused Adam) of three layers of one width.

The contenders take turns within a round, and a ratio is the median over rounds of the ratio in a
round, with its quartiles. Of one thread both clocks are read: the wall's, and the thread's own,
which does not run while others have the core.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch
import tyro
from stable_baselines3 import SAC
from stable_baselines3.common.logger import configure
from torch import nn

import kanbatsu.torch
from kanbatsu.integrations.sb3 import prune_policy
from kanbatsu.machine import machine_facts, versions

BATCH = 256
CONTENDERS = ("dense", "element", "grouped", "kept element", "kept grouped", "dense again")
CLOCKS: Mapping[str, Callable[[], float]] = {"wall": time.perf_counter, "thread": time.thread_time}


@dataclass(frozen=True)
class Arguments:
    """Time updates and steps in turn, print, append a line to a file."""

    sizes: tuple[str, ...] = ("256x2", "512x2", "1024x2")
    """Width x hidden layers of each network of SAC."""
    sparsity: float = 0.9
    """Share removed."""
    table: bool = True
    """Flag of the table over widths, sparsities and batches."""
    widths: tuple[int, ...] = (64, 256, 1024)
    """Widths of the table."""
    shares: tuple[float, ...] = (0.5, 0.9, 0.98)
    """Sparsities of the table."""
    batches: tuple[int, ...] = (1, 32, 256, 1024)
    """Batches of the table."""
    rounds: int = 12
    """How often each contender has its turn."""
    table_rounds: int = 5
    """The same for the table."""
    threads: int = 1
    """Threads of PyTorch."""
    json_out: Path = Path(__file__).parent / "results" / "torch_storage.jsonl"
    """The file that the line goes to."""


def main(arguments: Arguments) -> None:
    """Time, print, append."""
    torch.set_num_threads(arguments.threads)
    load, rows, bytes_of = os.getloadavg()[0], {}, {}
    for size in arguments.sizes:
        width, depth = (int(number) for number in size.split("x"))
        for adam in ("fused", "default"):
            models = {
                name: model_of(width, depth, arguments.sparsity, name, adam == "fused")
                for name in CONTENDERS
            }
            calls = {name: partial(update, model) for name, model in models.items()}
            rows[f"SAC update, {size}, {adam} Adam"] = compare(calls, arguments.rounds, 2)
            print_row(f"SAC update, {size}, {adam} Adam", rows)
        bytes_of[size] = {name: state_bytes(model) for name, model in models.items()}
        shares = {name: x / bytes_of[size]["dense"] for name, x in bytes_of[size].items()}
        print(f"  state, of dense: { {name: round(x, 3) for name, x in shares.items()} }")
    grid = [
        (width, share, batch)
        for width in arguments.widths
        for share in arguments.shares
        for batch in arguments.batches
    ]
    for width, share, batch in grid if arguments.table else ():
        calls = {name: step_of(width, share, batch, name) for name in CONTENDERS}
        what = f"step, {width}, {share:g}, batch {batch}"
        rows[what] = compare(calls, arguments.table_rounds, max(1, 20_000 // (width * batch)))
        print_row(what, rows)
    facts = machine_facts()
    record = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": facts
        | {"versions": facts["versions"] | versions(("torch", "stable-baselines3"))},
        "load_before": load,
        "load_after": os.getloadavg()[0],
        "sparsity": arguments.sparsity,
        "rounds": arguments.rounds,
        "table_rounds": arguments.table_rounds,
        "threads": arguments.threads,
        "batch": BATCH,
        "rows": rows,
        "bytes": bytes_of,
    }
    arguments.json_out.parent.mkdir(parents=True, exist_ok=True)
    with arguments.json_out.open("a") as file:
        file.write(json.dumps(record, sort_keys=True) + "\n")
    print(f"load {load:.1f} to {record['load_after']:.1f}; appended to {arguments.json_out}")


def compare(calls: Mapping[str, Callable[[], object]], rounds: int, times: int) -> dict[str, Any]:
    """Return, by clock, median milliseconds, and quartiles of how often the first's time."""
    taken: dict[str, dict[str, list[float]]] = {c: {name: [] for name in calls} for c in CLOCKS}
    for turn in range(rounds):
        # Backwards in every other round, so that nobody always follows the same one.
        for name in list(calls)[:: 1 if turn % 2 else -1]:
            calls[name]()
            begun = {clock: now() for clock, now in CLOCKS.items()}
            for _ in range(times):
                calls[name]()
            for clock, now in CLOCKS.items():
                taken[clock][name].append(1e3 * (now() - begun[clock]) / times)
    compared: dict[str, Any] = {}
    for clock, ms in taken.items():
        first, *others = ms
        ratios = {x: [a / b for a, b in zip(ms[first], ms[x], strict=True)] for x in others}
        compared[clock] = {
            "milliseconds": {name: statistics.median(values) for name, values in ms.items()},
            "quartiles of times as fast": {
                name: statistics.quantiles(values, n=4) for name, values in ratios.items()
            },
        }
    return compared


def print_row(what: str, rows: Mapping[str, Any]) -> None:
    """Print how often each was as fast as dense, by its thread's own clock."""
    ms, quartiles = rows[what]["thread"].values()
    print(
        f"{what:>34} {ms['dense']:9.3f} ms",
        *(f"{name} {q[1]:.2f} ({q[0]:.2f}-{q[2]:.2f})" for name, q in quartiles.items()),
        flush=True,
    )


def pruning(name: str) -> dict[str, str]:
    """Return how a contender's layers are pruned."""
    *kept, pattern = name.split()
    return {"pattern": pattern, "storage": "kept" if kept else "dense"}


def model_of(width: int, depth: int, sparsity: float, name: str, fused: bool) -> SAC:
    """Make SAC with two critics, their targets and an actor, and fill its replay buffer."""
    kwargs: dict[str, Any] = {"net_arch": [width] * depth}
    if fused:
        kwargs["optimizer_kwargs"] = {"fused": True}
    model = SAC("MlpPolicy", "Pendulum-v1", seed=0, device="cpu", policy_kwargs=kwargs)
    if not name.startswith("dense"):
        prune_policy(model, actor=sparsity, critic=sparsity, **pruning(name))
    model.learn(50)  # half of what comes before its first update
    model.set_logger(configure(None, []))
    return model


def update(model: SAC) -> None:
    """Take one gradient step."""
    model.train(gradient_steps=1, batch_size=BATCH)


def state_bytes(model: SAC) -> int:
    """Bytes of parameters, targets, gradients and moments."""
    parameters = list(model.policy.parameters())
    tensors = [*parameters, *(x.grad for x in parameters if x.grad is not None)]
    for optimizer in (model.actor.optimizer, model.critic.optimizer):
        tensors += [x for state in optimizer.state.values() for x in state.values()]
    return sum(x.numel() * x.element_size() for x in tensors)


def step_of(width: int, sparsity: float, batch: int, name: str) -> Callable[[], None]:
    """Forward, backward and Adam of three layers on a batch."""
    torch.manual_seed(0)
    layers = [part for _ in range(3) for part in (nn.Linear(width, width), nn.ReLU())]
    module = nn.Sequential(*layers[:-1])
    if not name.startswith("dense"):
        kanbatsu.torch.prune(module, sparsity, **pruning(name))
    optimizer = torch.optim.Adam(module.parameters(), 3e-4, fused=True)
    x, target = torch.randn(batch, width), torch.randn(batch, width)

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.mse_loss(module(x), target).backward()
        optimizer.step()

    return step


if __name__ == "__main__":
    main(tyro.cli(Arguments))
