"""Milliseconds of each product of one layer, dense and packed: what the break-even rests on.

    python benchmarks/layers.py                                # the layers of three critics
    python benchmarks/layers.py --layers 128x512 --sparsity 0.8

docs/sparse-compute.md reads the table.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from kanbatsu.sparsity.packed import Grouped, Packed
from kanbatsu.sparsity.pattern import draw
from kanbatsu.sparsity.weight import matmul

Call = Callable[[], Any]


@dataclass(frozen=True)
class Arguments:
    """Time forward, input gradient and weight gradient of layers in turn, and print a table."""

    layers: tuple[str, ...] = (
        "64x256",
        "128x512",
        "256x1024",
        "512x2048",
        "1024x4096",
        "4096x1024",
    )
    """Inputs x outputs."""
    sparsity: tuple[float, ...] = (0.5, 0.8, 0.9, 0.95)
    """Shares removed."""
    batch: int = 256
    """Samples per product."""
    rounds: int = 11
    """How often each product has its turn."""


def main(arguments: Arguments) -> None:
    """Time and print."""
    head = ("forward", "input grad.", "weight grad.", "all")
    print(f"{'layer':>10} {'weights':>14} {'kept':>9}", *(f"{name:>18}" for name in head))
    for layer in arguments.layers:
        inputs, outputs = (int(size) for size in layer.split("x"))
        rng = np.random.default_rng(0)
        value = rng.normal(size=(inputs, outputs)).astype(np.float32)
        weights: dict[str, Any] = {"dense": jnp.asarray(value)}
        for share, pattern in itertools.product(arguments.sparsity, ("element", "grouped")):
            kept = max(1, round((1.0 - share) * inputs)) * outputs
            mask = draw(jax.random.key(0), value.shape, kept, pattern)
            pack = (
                Packed.of if pattern == "element" else lambda v, m: Grouped.of(v, m, group_size=16)
            )
            weights[f"{pattern} {share}"] = pack(value, mask)
        x, dy = (
            jnp.asarray(rng.normal(size=(arguments.batch, size)).astype(np.float32))
            for size in (inputs, outputs)
        )
        times = time_in_turns(
            {name: products(weight, x, dy) for name, weight in weights.items()}, arguments.rounds
        )
        for name, weight in weights.items():
            kept = weight.size if name == "dense" else weight.kept
            work = 2e-6 * arguments.batch * kept
            cells = [
                f"{ms:8.2f} {work / ms:4.0f} {dense / ms:4.1f}"
                for ms, dense in zip(times[name], times["dense"], strict=True)
            ]
            total = f"{sum(times[name]):8.2f}      {sum(times['dense']) / sum(times[name]):4.1f}"
            print(f"{layer:>10} {name:>14} {kept:>9,}", *cells, total)
    print("each: milliseconds, GFLOP/s on kept weights, times faster than dense")


def products(weight: Any, x: jax.Array, dy: jax.Array) -> tuple[Call, ...]:
    """The three products, each as a compiled call; packed ones on feature-major activations."""
    is_dense = isinstance(weight, jax.Array)
    turn = (lambda a: a) if is_dense else (lambda a: a.T)
    x, dy = (a if is_dense else jnp.asarray(np.ascontiguousarray(a.T)) for a in (x, dy))

    @jax.jit
    def forward(weight: Any, x: jax.Array) -> jax.Array:
        return turn(matmul(turn(x), weight))

    def backward(wrt: int) -> Call:
        @jax.jit
        def gradient(weight: Any, x: jax.Array, dy: jax.Array) -> Any:
            def loss(pair: tuple[Any, jax.Array]) -> jax.Array:
                return jnp.vdot(turn(matmul(turn(pair[1]), pair[0])), dy)

            return jax.tree.leaves(jax.grad(loss, allow_int=True)((weight, x))[wrt])[0]

        return lambda: gradient(weight, x, dy)

    return (lambda: forward(weight, x), backward(1), backward(0))


def time_in_turns(calls: dict[str, tuple[Call, ...]], rounds: int) -> dict[str, list[float]]:
    """Median milliseconds of every call; all have a turn in each round."""
    times: dict[tuple[str, int], list[float]] = {}
    for turn in range(rounds + 1):
        for name, group in calls.items():
            for at, call in enumerate(group):
                started = time.perf_counter()
                jax.block_until_ready(call())
                if turn > 0:
                    elapsed = 1e3 * (time.perf_counter() - started)
                    times.setdefault((name, at), []).append(elapsed)
    return {
        name: [statistics.median(times[name, at]) for at in range(len(group))]
        for name, group in calls.items()
    }


if __name__ == "__main__":
    main(tyro.cli(Arguments))
