"""Contenders that take turns, so that a change of the machine's load meets all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Contenders = Mapping[str, Callable[[], object]]


def compare(
    contenders: Contenders,
    rounds: int,
    calls: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Any]:
    """Return median milliseconds, and median and quartiles of how often the first's time."""
    times = take_turns(contenders, rounds, calls, clock)
    first, *others = times
    in_rounds = {
        name: [a / b for a, b in zip(times[first], times[name], strict=True)] for name in others
    }
    ratios = {name: statistics.median(values) for name, values in in_rounds.items()}
    spread = {
        name: statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values
        for name, values in in_rounds.items()
    }
    ms = {name: statistics.median(values) for name, values in times.items()}
    return {"milliseconds": ms, f"times as fast as {first}": ratios, "quartiles": spread}


def print_head(names: Sequence[str]) -> None:
    """Print the first line of a table of comparisons."""
    first, *others = names
    print(f"{'':>24} {first:>9}", *(f"{name:>12}" for name in others))


def print_row(what: str, compared: Mapping[str, Any]) -> None:
    """Print what `compare` returned."""
    ms, ratios, _ = compared.values()
    print(f"{what:>24} {next(iter(ms.values())):9.3f}", *(f"{r:11.2f}x" for r in ratios.values()))


def take_turns(
    contenders: Mapping[str, Callable[[], object]],
    rounds: int,
    calls: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Milliseconds per call of every contender in every round; a first call is not timed."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds):
        # Backwards in every other round, so that nobody always follows the same one.
        for name in list(contenders)[:: 1 if turn % 2 else -1]:
            contenders[name]()
            started = clock()
            for _ in range(calls):
                contenders[name]()
            times[name].append(1e3 * (clock() - started) / calls)
    return times
