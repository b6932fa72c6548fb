"""The report in words: how numbers are written and what a comparison says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

ENOUGH_SEEDS = 5
"""Below this many seeds on a task no verdict is given.

Three against three runs cannot reach p = 0.05 even where every run of one side beats every run of
the other (exact Mann-Whitney test: 0.1), four just can (0.03), and a bootstrap of so few seeds is
too narrow.
"""

# Written as escapes: they look like a hyphen and an x.
DASH = "\u2013"
TIMES = "\u00d7"


def compact(value: float | int, _position: int | None = None) -> str:
    """Write a number in few characters, as axes need it.

    Example:
        >>> [compact(v) for v in (0, 0.25, 900, 20_000, 1_500_000)]
        ['0', '0.25', '900', '20k', '1.5M']
    """
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{letter}"
    return f"{value:.4g}"


def shorten(text: str, length: int) -> str:
    """Cut a text that is too long for its place.

    Example:
        >>> shorten("sparse-1024", 7)
        'sparse…'
    """
    return text if len(text) <= length else text[: length - 1] + "…"


def round_to(value: float | int) -> str:
    """Write a measurement with about three digits.

    Example:
        >>> [round_to(v) for v in (0.93412, 12.34, 835.2, 12345.6)]
        ['0.93', '12.3', '835', '12,346']
    """
    magnitude = abs(value)
    if magnitude >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if magnitude >= 10 else f"{value:.2f}"


def with_interval(value: float | int | None, interval: list[float] | None) -> str:
    """Write an estimate with its interval, or what is known of it.

    Example:
        >>> with_interval(0.9, [0.75, 1.0]), with_interval(3.0, None), with_interval(None, None)
        ('0.90 [0.75, 1.00]', '3.00', '–')
    """
    if value is None:
        return DASH
    if interval is None:
        return round_to(value)
    return f"{round_to(value)} [{round_to(interval[0])}, {round_to(interval[1])}]"


def plural(count: int, noun: str) -> str:
    """Write a count with its noun.

    Example:
        >>> plural(1, "seed"), plural(1200, "seed")
        ('1 seed', '1,200 seeds')
    """
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def listed(items: list[str]) -> str:
    """Join items as a sentence does.

    Example:
        >>> listed(["a"]), listed(["a", "b", "c"])
        ('a', 'a, b and c')
    """
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def describe(network: Mapping[str, Any]) -> str:
    """Say a network's shape and sparsity.

    Example:
        >>> describe({"network": "simba", "width": 512, "blocks": 2, "sparsity": 0.8})
        'SimBa 512 × 2, 80 % removed'
    """
    kind = {"simba": "SimBa", "mlp": "MLP"}.get(network.get("network", ""), "network")
    sparsity = network.get("sparsity") or 0.0
    shape = f"{kind} {network['width']} {TIMES} {network['blocks']}" if "width" in network else kind
    members = f" ({TIMES} {network['members']})" if network.get("members", 1) > 1 else ""
    pattern = network.get("pattern", "element")
    how = f", {pattern}" if sparsity and pattern != "element" else ""
    return shape + members + (f", {100 * sparsity:.4g} % removed{how}" if sparsity else ", dense")


class Verdict(NamedTuple):
    """What one comparison says, in two words and in one honest sentence."""

    word: str
    sentence: str


def verdict(comparison: Mapping[str, Any]) -> Verdict:
    """Say what a comparison of `summary.json` shows, and no more than that.

    The interval decides: it must leave out 0.5, and there must be at least `ENOUGH_SEEDS` seeds on
    every task.

    Example:
        >>> verdict({"arm": "a", "control": "b", "seeds_per_task": 5, "tasks": ["t"],
        ...          "probability_of_improvement": 0.9, "interval": [0.7, 1.0]}).word
        'better'
    """
    arm, control = comparison["arm"], comparison["control"]
    value, interval = comparison["probability_of_improvement"], comparison["interval"]
    seeds = comparison["seeds_per_task"]
    if value is None:
        return Verdict(
            "not comparable yet",
            f"{arm} cannot be compared with {control} yet: no task has finished runs of both.",
        )
    seen = (
        f"a run of {arm} returned more than a run of {control} in {100 * value:.0f} % of all pairs"
    )
    if interval is None:
        return Verdict(
            "too few seeds",
            f"One seed on a task cannot tell {arm} from {control}: there is no way to see how much "
            f"of a difference is chance. In these runs, {seen}.",
        )
    low, high = interval
    seen += f" (95 % interval {100 * low:.0f} to {100 * high:.0f} %)"
    if seeds < ENOUGH_SEEDS:
        return Verdict(
            "too few seeds",
            f"Whether {arm} is better than {control} cannot be decided from "
            f"{plural(seeds, 'seed')} per task. In these runs, {seen}.",
        )
    if low > 0.5:
        return Verdict("better", f"{arm} did better than {control} in this data: {seen}.")
    if high < 0.5:
        return Verdict("worse", f"{arm} did worse than {control} in this data: {seen}.")
    return Verdict(
        "no difference seen",
        f"No difference between {arm} and {control} could be seen: {seen}, and the interval "
        "includes 50 %.",
    )
