"""What networks keep over time: masks of a run may move, and each change is written down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Counted(NamedTuple):
    """Counts of a run's networks, and the operations that they need."""

    networks: Mapping[str, Mapping[str, Any]]
    """Counts by network, as they are at the end. Where `kept` has changed, `kept_first` and
    `kept_mean` stand beside it."""
    flops_per_update: Mapping[str, int]
    """Operations of an update; `sparse` as a mean over the run."""


def counted(metrics: Sequence[Mapping[str, Any]]) -> Counted:
    """Read all counts of a run; each holds until the next one.

    Counts are written when an evaluation finds others, so a run that is pruned while it trains is
    said to keep rather too much than too little.

    Args:
        metrics: Records of the run, in order.

    Example:
        >>> counts = [(0, 100), (10, 50), (40, 10)]
        >>> lines = [{"kind": "networks", "env_steps": at, "networks": {"critic": {"kept": kept}}}
        ...          for at, kept in counts]
        >>> counted([*lines, {"kind": "evaluation", "env_steps": 100}]).networks
        {'critic': {'kept': 10, 'kept_first': 100, 'kept_mean': 31.0}}
    """
    lines = [record for record in metrics if record["kind"] == "networks"]
    if not lines:
        return Counted({}, {})
    last = max(record["env_steps"] for record in metrics)
    moments = [line["env_steps"] for line in lines]

    def mean(values: Sequence[float | int]) -> float | int:
        """Average what each line says over the time for which it held."""
        if last == 0 or len(values) < 2:
            return values[-1]
        held = zip([0, *moments[1:]], [*moments[1:], last], strict=True)
        spans = [end - begin for begin, end in held]
        return sum(x * span for x, span in zip(values, spans, strict=True)) / last

    networks = {}
    for name, network in lines[-1]["networks"].items():
        kept = [line["networks"][name]["kept"] for line in lines]
        over_time = {} if len(set(kept)) < 2 else {"kept_first": kept[0], "kept_mean": mean(kept)}
        networks[name] = {**network, **over_time}
    flops = dict(lines[-1].get("flops_per_update") or {})
    if "sparse" in flops:
        flops["sparse"] = round(mean([line["flops_per_update"]["sparse"] for line in lines]))
    return Counted(networks, flops)
