"""What the mask of kanbatsu.torch costs: a training step and an action, dense and pruned.

    python benchmarks/torch_step.py
    python benchmarks/torch_step.py --layers 256x2 --sparsity 0.9 --threads 2

A pruned layer multiplies its weight by its mask before every product, and its gradient after. The
contenders take turns within a round, and a ratio is the median over rounds of the ratio in a round,
so that a change of the machine's load cancels; `dense again` shows how much of it does not.

Adam is timed twice: PyTorch's default on CPUs takes square roots through MKL, which is many times
slower at the root of zero, the second moment of a pruned weight (the last line has both times).
With `fused=True` it does not.
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

import torch
import tyro
from torch import nn

import kanbatsu.torch
from kanbatsu.machine import machine_facts, versions

INPUTS, BATCH = 88, 256
"""Observation and action of humanoid together, and the batch of the paper."""


@dataclass(frozen=True)
class Arguments:
    """Time steps and actions in turn, print a table, append a line to a file."""

    layers: tuple[str, ...] = ("256x2", "1024x2")
    """Width x hidden layers of each critic."""
    sparsity: float = 0.8
    """Share removed."""
    rounds: int = 40
    """How often each contender has its turn."""
    threads: int = 1
    """Threads of PyTorch."""
    json_out: Path = Path(__file__).parent / "results" / "torch_step.jsonl"
    """The file that the line goes to."""


def main(arguments: Arguments) -> None:
    """Time, print, append."""
    torch.set_num_threads(arguments.threads)
    load, rows = os.getloadavg()[0], {}
    print(f"{'':>8} {'':>16} {'dense':>9} {'pruned':>9}  pruned / dense  dense again / dense")
    for size in arguments.layers:
        width, depth = (int(number) for number in size.split("x"))
        modules = {name: critic(width, depth) for name in ("dense", "pruned", "dense again")}
        kanbatsu.torch.prune(modules["pruned"], arguments.sparsity)
        for what, make, calls in (
            ("step, fused Adam", partial(step_of, fused=True), 3),
            ("step, Adam", partial(step_of, fused=False), 3),
            ("action", action_of, 50),
        ):
            times = take_turns(
                {name: make(module) for name, module in modules.items()}, arguments.rounds, calls
            )
            ms = {name: statistics.median(values) for name, values in times.items()}
            ratio, noise = (
                statistics.median(a / b for a, b in zip(times[name], times["dense"], strict=True))
                for name in ("pruned", "dense again")
            )
            rows[f"{size}: {what}"] = ms | {"pruned / dense": ratio, "dense again / dense": noise}
            print(
                f"{size:>8} {what:>16} {ms['dense']:9.3f} {ms['pruned']:9.3f}"
                f"  {ratio:14.3f}  {noise:19.3f}"
            )
    roots = roots_of(1 << 18)
    print(f"262,144 roots of zeros: {roots['zeros']:.3f}, of others: {roots['others']:.3f}")
    facts = machine_facts()
    record = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": facts | {"versions": facts["versions"] | versions(("torch",))},
        "load_before": load,
        "sparsity": arguments.sparsity,
        "rounds": arguments.rounds,
        "threads": arguments.threads,
        "batch": BATCH,
        "milliseconds": rows,
        "milliseconds of 262,144 square roots": roots,
    }
    arguments.json_out.parent.mkdir(parents=True, exist_ok=True)
    with arguments.json_out.open("a") as file:
        file.write(json.dumps(record, sort_keys=True) + "\n")
    print(f"milliseconds; load before: {load:.1f}; appended to {arguments.json_out}")


def critic(width: int, depth: int) -> nn.Sequential:
    """Linear and ReLU, `depth` times, and a value."""
    torch.manual_seed(0)
    hidden = [
        layer
        for index in range(depth)
        for layer in (nn.Linear(width if index else INPUTS, width), nn.ReLU())
    ]
    return nn.Sequential(*hidden, nn.Linear(width, 1))


def step_of(module: nn.Module, fused: bool) -> Callable[[], None]:
    """Forward, backward and Adam on a batch."""
    optimizer = torch.optim.Adam(module.parameters(), 3e-4, fused=fused)
    x, target = torch.randn(BATCH, INPUTS), torch.randn(BATCH, 1)

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.mse_loss(module(x), target).backward()
        optimizer.step()

    return step


def action_of(module: nn.Module) -> Callable[[], None]:
    """Forward on one observation, without gradients."""
    x = torch.randn(1, INPUTS)

    def act() -> None:
        with torch.no_grad():
            module(x)

    return act


def roots_of(size: int) -> dict[str, float]:
    """Milliseconds of as many square roots."""
    out = torch.empty(size)
    numbers = {"zeros": torch.zeros(size), "others": torch.rand(size)}
    calls = {name: partial(torch.sqrt, x, out=out) for name, x in numbers.items()}
    return {name: statistics.median(ms) for name, ms in take_turns(calls, 20, 1).items()}


def take_turns(
    contenders: Mapping[str, Callable[[], object]], rounds: int, calls: int
) -> dict[str, list[float]]:
    """Milliseconds per call of every contender in every round; a first call is not timed."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds):
        # Backwards in every other round, so that nobody always follows the same one.
        for name in list(contenders)[:: 1 if turn % 2 else -1]:
            contenders[name]()
            started = time.perf_counter()
            for _ in range(calls):
                contenders[name]()
            times[name].append(1e3 * (time.perf_counter() - started) / calls)
    return times


if __name__ == "__main__":
    main(tyro.cli(Arguments))
