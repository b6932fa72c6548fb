"""What pruning gains in PyTorch: training steps and actions, dense, masked and packed.

    python benchmarks/torch_step.py
    python benchmarks/torch_step.py --layers 512x2 --sparsity 0.8 --threads 2

`masked` multiplies weight and mask before every product, `element` and `grouped` multiply by kept
weights only (`compute="auto"`). The contenders take turns within a round, and a ratio is the median
over rounds of the ratio in a round, so that a change of the machine's load cancels; `dense again`
shows how much of it does not.

A step is forward, backward and Adam on a critic; an update is one gradient step of SAC of
Stable-Baselines3, with its own networks; a layer is forward and backward of one alone, and shows
from which sparsity on packing saves time. Adam is fused; `slow Adam` is PyTorch's default on CPUs,
which takes square roots through MKL: many times slower at the root of zero, the second moment of a
pruned weight (the last line has both times).
"""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import torch
import tyro
from stable_baselines3 import SAC
from stable_baselines3.common.logger import configure
from torch import nn
from turns import compare, print_head, print_row, take_turns

import kanbatsu.torch
from kanbatsu.integrations.sb3 import prune_policy
from kanbatsu.machine import machine_facts, versions

INPUTS, BATCH = 88, 256
"""Observation and action of humanoid together, and the batch of the paper."""
CONTENDERS = ("dense", "masked", "element", "grouped", "dense again")


@dataclass(frozen=True)
class Arguments:
    """Time steps, updates, actions and layers in turn, print a table, append a line to a file."""

    layers: tuple[str, ...] = ("256x2", "512x2", "1024x2")
    """Width x hidden layers of each network."""
    sparsity: float = 0.9
    """Share removed."""
    alone: tuple[str, ...] = ("128x128", "512x512")
    """Inputs x outputs of layers that are timed alone."""
    shares: tuple[float, ...] = (0.3, 0.5, 0.7, 0.9)
    """Sparsities of those."""
    rounds: int = 20
    """How often each contender has its turn."""
    threads: int = 1
    """Threads of PyTorch."""
    json_out: Path = Path(__file__).parent / "results" / "torch_step.jsonl"
    """The file that the line goes to."""


def main(arguments: Arguments) -> None:
    """Time, print, append."""
    torch.set_num_threads(arguments.threads)
    load, rows = os.getloadavg()[0], {}
    print_head(CONTENDERS)

    def race(what: str, make: Callable[[str], Callable[[], object]], calls: int) -> None:
        rows[what] = compare({name: make(name) for name in CONTENDERS}, arguments.rounds, calls)
        print_row(what, rows[what])

    for size in arguments.layers:
        width, depth = (int(number) for number in size.split("x"))
        made = partial(critic, width, depth, arguments.sparsity)
        race(f"step, {size}", lambda name, made=made: step_of(made(name)), 3)
        race(f"step, slow Adam, {size}", lambda name, made=made: step_of(made(name), False), 3)
        sac = partial(update_of, width, depth, arguments.sparsity)
        race(f"SAC update, {size}", sac, 2)
        race(f"action, {size}", lambda name, made=made: action_of(made(name)), 50)
    for size in arguments.alone:
        for share in arguments.shares:
            made = partial(layer_of, *(int(number) for number in size.split("x")), share)
            race(f"layer, {size}, {share:g}", made, 5)
    roots = roots_of(1 << 18)
    print(f"262,144 roots of zeros: {roots['zeros']:.3f} ms, of others: {roots['others']:.3f} ms")
    facts = machine_facts()
    record = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": facts
        | {"versions": facts["versions"] | versions(("torch", "stable-baselines3"))},
        "load_before": load,
        "sparsity": arguments.sparsity,
        "rounds": arguments.rounds,
        "threads": arguments.threads,
        "batch": BATCH,
        "rows": rows,
        "milliseconds of 262,144 square roots": roots,
    }
    arguments.json_out.parent.mkdir(parents=True, exist_ok=True)
    with arguments.json_out.open("a") as file:
        file.write(json.dumps(record, sort_keys=True) + "\n")
    print(f"load before: {load:.1f}; appended to {arguments.json_out}")


def pruning(name: str) -> dict[str, str]:
    """Return how a contender's layers are pruned."""
    if name == "masked":
        return {"compute": "masked"}
    return {"pattern": name, "compute": "auto"}


def critic(width: int, depth: int, sparsity: float, name: str) -> nn.Sequential:
    """Linear and ReLU, `depth` times, and a value."""
    torch.manual_seed(0)
    hidden = [
        layer
        for index in range(depth)
        for layer in (nn.Linear(width if index else INPUTS, width), nn.ReLU())
    ]
    module = nn.Sequential(*hidden, nn.Linear(width, 1))
    dense = name.startswith("dense")
    return module if dense else kanbatsu.torch.prune(module, sparsity, **pruning(name))


def step_of(module: nn.Module, fused: bool = True) -> Callable[[], None]:
    """Forward, backward and Adam on a batch."""
    optimizer = torch.optim.Adam(module.parameters(), 3e-4, fused=fused)
    x, target = torch.randn(BATCH, INPUTS), torch.randn(BATCH, 1)

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.mse_loss(module(x), target).backward()
        optimizer.step()

    return step


def update_of(width: int, depth: int, sparsity: float, name: str) -> Callable[[], None]:
    """One gradient step of SAC: two critics, their targets, the actor and the temperature."""
    kwargs = {"net_arch": [width] * depth, "optimizer_kwargs": {"fused": True}}
    model = SAC("MlpPolicy", "Pendulum-v1", seed=0, device="cpu", policy_kwargs=kwargs)
    if not name.startswith("dense"):
        prune_policy(model, actor=sparsity, critic=sparsity, **pruning(name))
    model.learn(50)  # half of what comes before its first update
    model.set_logger(configure(None, []))
    return lambda: model.train(gradient_steps=1, batch_size=BATCH)


def action_of(module: nn.Module) -> Callable[[], None]:
    """Forward on one observation, without gradients."""
    x = torch.randn(1, INPUTS)

    def act() -> None:
        with torch.no_grad():
            module(x)

    return act


def layer_of(inputs: int, outputs: int, sparsity: float, name: str) -> Callable[[], None]:
    """Forward and backward of one layer, packed whatever its size."""
    torch.manual_seed(0)
    layer = nn.Linear(inputs, outputs)
    if not name.startswith("dense"):
        how = pruning(name)
        how["compute"] = how["compute"].replace("auto", "packed")
        kanbatsu.torch.prune(layer, sparsity, **how)
    x, dy = torch.randn(BATCH, inputs, requires_grad=True), torch.randn(BATCH, outputs)

    def there_and_back() -> None:
        layer.zero_grad()
        layer(x).backward(dy)

    return there_and_back


def roots_of(size: int) -> dict[str, float]:
    """Milliseconds of as many square roots."""
    out = torch.empty(size)
    numbers = {"zeros": torch.zeros(size), "others": torch.rand(size)}
    calls = {name: partial(torch.sqrt, x, out=out) for name, x in numbers.items()}
    return {name: statistics.median(ms) for name, ms in take_turns(calls, 20, 1).items()}


if __name__ == "__main__":
    main(tyro.cli(Arguments))
