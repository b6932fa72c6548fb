"""What pruning gains with Flax and SBX: training steps and actions, dense, masked and packed.

    python benchmarks/flax_step.py
    taskset -c 0 python benchmarks/flax_step.py --layers 512x2 --sparsity 0.8

`masked` is the user's own network with zeros in it, `element` and `grouped` multiply by kept
weights only (`compute="auto"` of `packed` and of `prune_policy`), and with `kept` in front their
parameters are kept values (`storage="kept"`). The contenders take turns within
a round, and a ratio is the median over rounds of the ratio in a round; `dense again` shows how much
of the machine's load does not cancel.

A step is forward, backward and Adam on a linen critic, compiled; an update is one gradient step of
SBX's SAC, with its own networks and two critics; an action is one observation through the critic.
A layer is forward and backward of one alone, packed whatever the batch: from how many samples on
that saves time. JAX takes as many threads as the process may use cores.
"""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
import tyro
from flax import linen
from turns import compare, print_head, print_row

import kanbatsu
from kanbatsu.flax import packed, to_kept
from kanbatsu.integrations.sbx import prune_policy
from kanbatsu.machine import machine_facts, usable_cores, versions
from kanbatsu.sparsity.config import PATTERNS
from kanbatsu.sparsity.pattern import draw
from kanbatsu.sparsity.stored_dense import GatheredProduct

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of TensorFlow Probability's
    from sbx import SAC
from stable_baselines3.common.logger import configure

INPUTS, BATCH = 88, 256
"""Observation and action of humanoid together, and the batch of the paper."""
CONTENDERS = (
    "dense",
    "masked",
    "element",
    "grouped",
    "kept element",
    "kept grouped",
    "dense again",
)
ALONE = tuple(name for name in CONTENDERS if not name.startswith("kept"))
KINDS = ("step", "SAC update", "action")


@dataclass(frozen=True)
class Arguments:
    """Time steps, updates and actions in turn, print a table, append a line to a file."""

    layers: tuple[str, ...] = ("256x2", "512x2", "1024x2")
    """Width x hidden layers of each network."""
    sparsity: float = 0.9
    """Share removed."""
    alone: tuple[str, ...] = ("256x256", "1024x1024")
    """Inputs x outputs of layers that are timed alone."""
    batches: tuple[int, ...] = (1, 8, 16, 32, 64)
    """Samples of those."""
    kinds: tuple[str, ...] = KINDS
    """What is timed of each network: `step`, `SAC update`, `action`."""
    contenders: tuple[str, ...] = CONTENDERS
    """What takes turns; the first is what the others are compared with."""
    clock: str = "wall"
    """What is counted: `wall` time, or, where others load the machine, the process's `cpu` time."""
    rounds: int = 20
    """How often each contender has its turn."""
    json_out: Path = Path(__file__).parent / "results" / "flax_step.jsonl"
    """The file that the line goes to."""


class Critic(linen.Module):
    """Dense and ReLU, `depth` times, and a value."""

    width: int
    depth: int

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map `[batch, inputs]` to `[batch, 1]`."""
        for _ in range(self.depth):
            x = linen.relu(linen.Dense(self.width)(x))
        return linen.Dense(1)(x)


def main(arguments: Arguments) -> None:
    """Time, print, append."""
    clock = {"wall": time.perf_counter, "cpu": time.process_time}[arguments.clock]
    load, rows, state = os.getloadavg()[0], {}, {}
    print_head(arguments.contenders)

    def race(
        what: str,
        make: Callable[[str], Callable[[], object]],
        calls: int,
        names: tuple[str, ...] = arguments.contenders,
    ) -> None:
        rows[what] = compare({name: make(name) for name in names}, arguments.rounds, calls, clock)
        print_row(what, rows[what])

    for size in arguments.layers:
        width, depth = (int(number) for number in size.split("x"))
        sizes = (width, depth, arguments.sparsity)
        for kind in arguments.kinds:
            make, calls = MAKERS[kind]
            race(f"{kind}, {size}", partial(make, *sizes), calls)
        state[size] = {name: state_of(*sizes, name) for name in arguments.contenders}
        print(
            f"state of SAC, {size}, MiB:",
            {name: f"{b / 2**20:.2f}" for name, b in state[size].items()},
        )
    for size in arguments.alone:
        sizes = (*(int(number) for number in size.split("x")), arguments.sparsity)
        for batch in arguments.batches:
            race(f"layer, {size}, {batch}", partial(layer_of, *sizes, batch), 20, ALONE)
    facts = machine_facts()
    record = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": facts | {"versions": facts["versions"] | versions(("flax", "sbx-rl"))},
        "load_before": load,
        "sparsity": arguments.sparsity,
        "rounds": arguments.rounds,
        "clock": arguments.clock,
        "cores": len(usable_cores()),
        "batch": BATCH,
        "rows": rows,
        "state_bytes": state,
    }
    arguments.json_out.parent.mkdir(parents=True, exist_ok=True)
    with arguments.json_out.open("a") as file:
        file.write(json.dumps(record, sort_keys=True) + "\n")
    print(f"load before: {load:.1f}; appended to {arguments.json_out}")


def network_of(
    width: int, depth: int, sparsity: float, name: str
) -> tuple[Callable[..., jax.Array], Any, Any]:
    """A critic's `apply`, its parameters, and an optimizer that keeps it pruned."""
    module, optimizer = Critic(width, depth), optax.adam(3e-4)
    params = module.init(jax.random.key(0), jnp.ones((1, INPUTS)))
    if name.startswith("dense"):
        return module.apply, params, optimizer
    pattern = "element" if name == "masked" else name.split()[-1]
    masks = kanbatsu.make_masks(params, sparsity, key=jax.random.key(1), pattern=pattern)
    if name.startswith("kept"):
        return packed(module, masks, storage="kept"), to_kept(params, masks), optimizer
    params, optimizer = kanbatsu.apply_masks(params, masks), kanbatsu.keep_pruned(optimizer, masks)
    return module.apply if name == "masked" else packed(module, masks), params, optimizer


def step_of(width: int, depth: int, sparsity: float, name: str) -> Callable[[], object]:
    """Forward, backward and Adam on a batch."""
    apply, params, optimizer = network_of(width, depth, sparsity, name)
    x, target = jax.random.normal(jax.random.key(2), (BATCH, INPUTS)), jnp.ones((BATCH, 1))

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(params: Any, state: Any) -> tuple[Any, Any]:
        gradient = jax.grad(lambda p: jnp.mean((apply(p, x) - target) ** 2))(params)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    held = [(params, optimizer.init(params))]

    def once() -> None:
        held[0] = jax.block_until_ready(step(*held[0]))

    return once


def update_of(width: int, depth: int, sparsity: float, name: str) -> Callable[[], object]:
    """One gradient step of SAC: two critics, their targets, the actor and the temperature."""
    model = model_of(width, depth, sparsity, name)
    model.learn(50)  # half of what comes before its first update
    model.set_logger(configure(None, []))
    return lambda: model.train(gradient_steps=1, batch_size=BATCH)


def model_of(width: int, depth: int, sparsity: float, name: str) -> SAC:
    """SBX's SAC with two critics."""
    kwargs = {"net_arch": [width] * depth}
    model = SAC("MlpPolicy", "Pendulum-v1", seed=0, policy_kwargs=kwargs)
    if name == "masked":
        prune_policy(model, sparsity, sparsity, compute="masked")
    elif not name.startswith("dense"):
        storage = "kept" if name.startswith("kept") else "dense"
        prune_policy(model, sparsity, sparsity, pattern=name.split()[-1], storage=storage)
    return model


def state_of(width: int, depth: int, sparsity: float, name: str) -> int:
    """Bytes of SAC's weights, a gradient, moments, targets, masks, and places of kept values."""
    policy = model_of(width, depth, sparsity, name).policy
    states = [policy.actor_state, policy.qf_state]
    arrays = jax.tree.leaves([states, [state.params for state in states]])
    places = [
        matrix.structure
        for state in states
        for each in getattr(state.apply_fn, "places", {}).values()
        for matrix in each.matrices
    ]
    return sum(
        array.nbytes for array in jax.tree.leaves([arrays, places]) if hasattr(array, "nbytes")
    )


def action_of(width: int, depth: int, sparsity: float, name: str) -> Callable[[], object]:
    """Forward on one observation."""
    apply, params, _ = network_of(width, depth, sparsity, name)
    act, x = jax.jit(apply), jnp.ones((1, INPUTS))
    return lambda: jax.block_until_ready(act(params, x))


def layer_of(
    inputs: int, outputs: int, sparsity: float, batch: int, name: str
) -> Callable[[], object]:
    """Forward and backward of one layer; `masked` is what a dense one is."""
    key, kept = jax.random.key(0), round((1 - sparsity) * inputs) * outputs
    x, kernel = jax.random.normal(key, (batch, inputs)), jax.random.normal(key, (inputs, outputs))
    multiply: Callable[..., jax.Array] = lambda x, kernel, bias: x @ kernel + bias  # noqa: E731
    if name in PATTERNS:
        multiply = GatheredProduct.of(draw(key, kernel.shape, kept, name))

    @jax.jit
    def there_and_back(*arrays: jax.Array) -> Any:
        return jax.grad(lambda *a: (multiply(*a) ** 2).sum(), argnums=(0, 1, 2))(*arrays)

    bias = jnp.zeros(outputs)
    return lambda: jax.block_until_ready(there_and_back(x, kernel, bias))


MAKERS: dict[str, tuple[Callable[..., Callable[[], object]], int]] = {
    "step": (step_of, 3),
    "SAC update": (update_of, 2),
    "action": (action_of, 50),
}
"""How each kind is made, and its calls in a turn."""


if __name__ == "__main__":
    main(tyro.cli(Arguments))
