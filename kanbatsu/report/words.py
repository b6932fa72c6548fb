"""The report in words: how numbers are written and what a comparison says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from kanbatsu.report.language import Texts

ENOUGH_SEEDS = 5
"""Below this many seeds on a task no verdict is given.

Three against three runs cannot reach p = 0.05 even where every run of one side beats every run of
the other (exact Mann-Whitney test: 0.1), four just can (0.03), and a bootstrap of so few seeds is
too narrow.
"""

# Written as escapes: they look like a hyphen and an x.
DASH = "\u2013"
TIMES = "\u00d7"


def agent_name(agent: str) -> str:
    """Write an agent's name as papers do.

    Example:
        >>> [agent_name(name) for name in ("sac", "stream_ac", "classifier")]
        ['SAC', 'Stream AC', 'classifier']
    """
    family, _, kind = agent.partition("_")
    if kind:
        return f"{family.capitalize()} {kind.upper()}"
    return agent if agent == "classifier" else agent.upper()


def compact(value: float | int, _position: int | None = None) -> str:
    """Write a number in few characters, as axes need it.

    Example:
        >>> [compact(v) for v in (0, 0.25, 900, 20_000, 1_500_000)]
        ['0', '0.25', '900', '20k', '1.5M']
    """
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
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


def describe(network: Mapping[str, Any], t: Texts) -> str:
    """Say a network's shape and sparsity.

    Example:
        >>> from kanbatsu.report.language import texts
        >>> network = {"network": "simba", "width": 512, "blocks": 2, "sparsity": 0.8}
        >>> describe(network, texts("en")), describe(network, texts("ja"))
        ('SimBa 512 × 2, 80% removed', 'SimBa 512 × 2、80% を枝刈り')
    """
    kind = f"network.kind.{network.get('network')}"
    shape = t(kind if t.has(kind) else "network.kind.other")
    if "width" in network:
        shape += f" {network['width']} {TIMES} {network['blocks']}"
    if network.get("members", 1) > 1:
        shape += f" ({TIMES} {network['members']})"
    sparsity, pattern = network.get("sparsity") or 0.0, network.get("pattern", "element")
    if not sparsity:
        return t("network.dense", shape=shape)
    how = "network.removed" if pattern == "element" else "network.removed_how"
    return t(how, shape=shape, percent=f"{100 * sparsity:.4g}", pattern=pattern)


class Compared(NamedTuple):
    """What one comparison says, in two words and in one honest sentence."""

    kind: Literal["nothing", "few", "better", "worse", "same"]
    word: str
    sentence: str


def compared(comparison: Mapping[str, Any], t: Texts) -> Compared:
    """Say what a comparison of `summary.json` shows, and no more than that.

    The interval decides: it must leave out 0.5, and there must be at least `ENOUGH_SEEDS` seeds on
    every task.

    Example:
        >>> from kanbatsu.report.language import texts
        >>> compared({"arm": "a", "control": "b", "seeds_per_task": 5, "tasks": ["t"],
        ...           "probability_of_improvement": 0.9, "interval": [0.7, 1.0]}, texts("en")).word
        'better'
    """
    names = {"arm": comparison["arm"], "control": comparison["control"]}
    value, interval = comparison["probability_of_improvement"], comparison["interval"]
    seeds = comparison["seeds_per_task"]

    def say(kind: Any, sentence: str, **values: str) -> Compared:
        words = t(f"comparison.{sentence}", **names, **values)
        return Compared(kind, t(f"comparison.{kind}.word"), words)

    if value is None:
        return say("nothing", "nothing.text")
    if interval is None:
        seen = t("comparison.seen", **names, percent=f"{100 * value:.0f}")
        return say("few", "few.one", seen=seen)
    low, high = interval
    bounds = {"low": f"{100 * low:.0f}", "high": f"{100 * high:.0f}"}
    key = "comparison.seen_judged" if comparison.get("judged") else "comparison.seen_interval"
    seen = t(key, **names, percent=f"{100 * value:.0f}", **bounds)
    if seeds < ENOUGH_SEEDS:
        return say("few", "few.many", seen=seen, seeds=t.count("seeds", seeds))
    kind = "better" if low > 0.5 else "worse" if high < 0.5 else "same"
    return say(kind, f"{kind}.text", seen=seen)
