"""How much a layer may keep for packed weights to be faster here: measured once per machine."""

from __future__ import annotations

import functools
import json
import math
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kanbatsu.kernels.constants import GROUP_SIZES
from kanbatsu.kernels.library import instruction_set, library
from kanbatsu.machine import cpu_name, usable_cores
from kanbatsu.sparsity.packed import MOST_FEATURES, Grouped, Packed
from kanbatsu.sparsity.pattern import draw
from kanbatsu.sparsity.weight import matmul

SMALLEST = 1 << 14
"""Weights of a layer, before pruning, below which packing saves nothing worth having: its dense
products take less time than it takes to begin a kernel (benchmarks/layers.py)."""
BATCH, INPUTS, OUTPUTS = 256, 512, 2048
"""The layer that is measured: the narrower one of a SimBa block of width 512."""
DENSITIES = (0.1, 0.3)
"""Shares kept at which packed products are timed; their time grows linearly in between."""
REPEATS = 7


def is_faster_packed(mask: np.ndarray, pattern: str, group_size: int) -> bool:
    """Whether a layer trains faster with packed than with masked weights, on this machine.

    Args:
        mask: `[inputs, outputs]` or the reverse, True = kept.
        pattern: how it was drawn.
        group_size: outputs per group, of the grouped pattern.

    Returns:
        False for small layers, on other devices than CPUs, and where there are no kernels.
    """
    if mask.size < SMALLEST or jax.default_backend() != "cpu" or library() is None:
        return False
    if pattern == "grouped":
        return group_size in GROUP_SIZES and bool(mask.mean() < break_even()["grouped"])
    return max(mask.shape) <= MOST_FEATURES and bool(mask.mean() < break_even()["element"])


@functools.cache
def break_even() -> dict[str, float]:
    """Return, by pattern, the share kept below which packed weights are faster.

    It is measured on the first call on a machine, which takes a few seconds, and kept in
    `~/.cache/kanbatsu` (or `$KANBATSU_CACHE`), so that later processes choose alike.
    """
    path = cache_file()
    machine = f"{cpu_name()}, {instruction_set()}, {len(usable_cores())} cores"
    known = _read(path)
    if machine not in known:
        measured = measure()
        # Of processes that measure at the same time, the first to write decides for all.
        known = {machine: measured} | _read(path)
        _write(path, known)
    return known[machine]


def cache_file() -> Path:
    """Return where the measurements of this machine are kept."""
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "kanbatsu"
    return Path(os.environ.get("KANBATSU_CACHE", default)) / "break-even.json"


def measure() -> dict[str, float]:
    """Time one layer's three products, dense and packed, and find where their times cross."""
    rng = np.random.default_rng(0)
    value = rng.normal(size=(INPUTS, OUTPUTS)).astype(np.float32)
    x = rng.normal(size=(BATCH, INPUTS)).astype(np.float32)
    weights: dict[Any, Any] = {"dense": jnp.asarray(value)}
    for pattern in ("element", "grouped"):
        for density in DENSITIES:
            kept = round(density * INPUTS) * OUTPUTS
            mask = draw(jax.random.key(0), value.shape, kept, pattern)
            weights[pattern, density] = (
                Grouped.of(value, mask, group_size=16)
                if pattern == "grouped"
                else Packed.of(value, mask)
            )
    calls = {name: _products(weight, jnp.asarray(x)) for name, weight in weights.items()}
    seconds = _time(calls)
    low, high = DENSITIES
    crossings = {}
    for pattern in ("element", "grouped"):
        slope = (seconds[pattern, high] - seconds[pattern, low]) / (high - low)
        fixed = seconds[pattern, low] - slope * low
        crossing = (seconds["dense"] - fixed) / slope if slope > 0 else math.inf
        crossings[pattern] = round(min(max(crossing, 0.0), 1.0), 2)
    return crossings


def _products(weight: Any, x: jax.Array) -> Callable[[], Any]:
    """A call that multiplies forwards, back to the inputs, and back to the weights."""

    @jax.jit
    def products(weight: Any, x: jax.Array) -> Any:
        def loss(pair: tuple[Any, jax.Array]) -> jax.Array:
            return (matmul(pair[1], pair[0]) ** 2).sum()

        return jax.grad(loss, allow_int=True)((weight, x))

    return lambda: jax.block_until_ready(products(weight, x))


def _time(calls: dict[Any, Callable[[], Any]]) -> dict[Any, float]:
    """Median seconds of each, taken in turns so that all meet the same noise."""
    times: dict[Any, list[float]] = {name: [] for name in calls}
    for turn in range(REPEATS + 1):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            if turn > 0:
                times[name].append(time.perf_counter() - started)
    return {name: statistics.median(taken) for name, taken in times.items()}


def _read(path: Path) -> dict[str, dict[str, float]]:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return {}


def _write(path: Path, known: dict[str, dict[str, float]]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(f".{os.getpid()}.draft")
        draft.write_text(json.dumps(known, indent=2) + "\n")
        draft.replace(path)
    except OSError:
        return  # a home that cannot be written to: every process measures for itself
