"""The race: contenders of one size take turns, and dense is what they are measured against."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import jax
import jax.numpy as jnp

from kanbatsu.bench.contender import Contender
from kanbatsu.bench.entrant import Entrant, Facts

MILLISECONDS_PER_TURN = 400.0
"""Milliseconds of a turn, about: short calls are repeated."""


@dataclass(frozen=True)
class Row:
    """Measurements of one contender."""

    what: str
    size: str
    sparsity: float
    pattern: str
    compute: str
    milliseconds: float
    """Median per update, or per action."""
    quartiles: tuple[float, float]
    ratio_to_dense: float | None
    """Median over the turns of the milliseconds of the fastest dense contender over these, in the
    same turn; above 1 is faster than dense."""
    weights: int
    gflops: float
    """Billions of operations per second on weights that exist, at the median."""
    peak_gflops: float
    """GFLOP/s that a bare dense product reached on this machine at the start."""
    state_bytes: int
    peak_resident_bytes: int

    @property
    def spec(self) -> Entrant:
        """Contender that was measured."""
        return Entrant(self.what, self.size, self.sparsity, self.pattern, self.compute)

    def record(self) -> dict[str, Any]:
        """Return the row as JSON knows it."""
        return asdict(self)


def run_race(
    specs: Sequence[Entrant], rounds: int, peak_gflops: float, say: Callable[[str], None]
) -> tuple[list[Row], dict[Entrant, str]]:
    """Let contenders work in turns.

    Args:
        specs: contenders; ratios are taken to the fastest whose pattern is `dense`.
        rounds: turns of each.
        peak_gflops: what the machine can do, for the rows.
        say: told what happens, for it takes a while.

    Returns:
        A row for each contender that took part, and for every other one the reason.
    """
    with contextlib.ExitStack() as stack:
        facts: dict[Contender, Facts] = {}
        absent: dict[Entrant, str] = {}
        for spec in specs:
            say(f"preparing {spec.what} {spec.size} {name_of(spec)}")
            contender = stack.enter_context(Contender(spec))
            answer = contender.facts()
            if isinstance(answer, str):
                absent[spec] = answer
            else:
                facts[contender] = answer
        times = _take_turns(facts, rounds, say)
        peaks = {contender: contender.peak_bytes() for contender in facts}
    dense = [times[contender] for contender in facts if contender.spec.pattern == "dense"]
    fastest = min(dense, key=_median, default=None)
    rows = [_row(c, facts[c], times[c], fastest, peaks[c], peak_gflops) for c in facts]
    return rows, absent


def bare_product_gflops(batch: int = 256, inputs: int = 1024, outputs: int = 4096) -> float:
    """Return the speed of one dense product, the yardstick of every other number."""
    x, weight = jnp.ones((batch, inputs)), jnp.ones((inputs, outputs))
    product = jax.jit(jnp.matmul)
    times = []
    for _ in range(12):
        started = time.perf_counter()
        product(x, weight).block_until_ready()
        times.append(time.perf_counter() - started)
    return 2e-9 * batch * inputs * outputs / statistics.median(times)


def name_of(spec: Entrant) -> str:
    """Say in a few words what a contender is.

    Example:
        >>> name_of(Entrant("update", "17M", 0.9, "grouped", "packed"))
        'grouped 0.9, packed'
    """
    if spec.pattern == "dense":
        return spec.compute
    return f"{spec.pattern} {spec.sparsity:g}, {spec.compute}"


def _take_turns(
    contenders: Iterable[Contender], rounds: int, say: Callable[[str], None]
) -> dict[Contender, list[list[float]]]:
    """Milliseconds of every call, by contender and turn."""
    calls = {}
    for contender in contenders:
        (once,) = contender.work(1)
        calls[contender] = max(1, min(2_000, round(MILLISECONDS_PER_TURN / max(once, 1e-3))))
    times: dict[Contender, list[list[float]]] = {contender: [] for contender in calls}
    for turn in range(rounds):
        say(f"turn {turn + 1} of {rounds}")
        for contender, number in calls.items():
            contender.work(1)  # brings its data back into the caches
            times[contender].append(contender.work(number))
    return times


def _median(times: list[list[float]]) -> float:
    return statistics.median(time for turn in times for time in turn)


def _row(
    contender: Contender,
    facts: Facts,
    times: list[list[float]],
    dense: list[list[float]] | None,
    peak_bytes: int,
    peak_gflops: float,
) -> Row:
    every = [time for turn in times for time in turn]
    quartiles = statistics.quantiles(every, n=4) if len(every) > 1 else every * 3
    ratio = None
    if dense is not None:
        ratio = statistics.median(
            statistics.median(one) / statistics.median(other)
            for one, other in zip(dense, times, strict=True)
        )
    return Row(
        **asdict(contender.spec),
        milliseconds=quartiles[1],
        quartiles=(quartiles[0], quartiles[2]),
        ratio_to_dense=ratio,
        weights=facts.weights,
        gflops=facts.operations / quartiles[1] / 1e6,
        peak_gflops=peak_gflops,
        state_bytes=facts.state_bytes,
        peak_resident_bytes=peak_bytes,
    )
