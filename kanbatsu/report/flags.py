"""Warnings of the probes of an arm: divergence, collapse of rank, dormant units, odd gradients."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from kanbatsu.report.results import ArmResults, RunResults
from kanbatsu.report.stats import median

DORMANT = 0.5
"""Share of units from which on a network counts as largely dormant. A convention, not a finding."""
RANK_LEFT = 0.25
"""Share of its first srank below which the features of a network count as collapsed. Likewise."""
GRADIENT_GROWTH = 100.0
"""Growth of the gradient norm since the first probe that counts as odd, up or down. Likewise."""


def flags(arm: ArmResults, task: str) -> Iterator[dict[str, Any]]:
    """Yield what the probes of an arm on a task warn of, as JSON values.

    Each has `arm`, `task`, `kind` (`divergence`, `rank_collapse`, `dormancy` or `gradient`),
    `network` (None where the run as a whole is meant), `value` and `threshold`. Values are medians
    over seeds, so that one odd run raises no flag; for a divergence, the number of runs that ended
    in, or measured, a number that is not finite.
    """

    def flag(kind: str, network: str | None, value: float, threshold: float) -> dict[str, Any]:
        where = {"arm": arm.name, "task": task, "kind": kind, "network": network}
        return where | {"value": value, "threshold": threshold}

    runs = arm.on(task)
    count = sum(diverged(run) for run in runs)
    if count:
        yield flag("divergence", None, float(count), 0.0)
    networks = sorted({name.partition("/")[0] for run in runs for name in run.probes})
    for network in networks:
        dormant = median(run.last_probe(f"{network}/dormant_0.1") for run in runs)
        if dormant is not None and dormant > DORMANT:
            yield flag("dormancy", network, dormant, DORMANT)
        left = median(_change(run, f"{network}/srank") for run in runs)
        if left is not None and left < RANK_LEFT:
            yield flag("rank_collapse", network, left, RANK_LEFT)
        growth = median(_change(run, f"{network}/gradient_norm") for run in runs)
        if growth is not None and not 1 / GRADIENT_GROWTH <= growth <= GRADIENT_GROWTH:
            threshold = GRADIENT_GROWTH if growth > 1 else 1 / GRADIENT_GROWTH
            yield flag("gradient", network, growth, threshold)


def diverged(run: RunResults) -> bool:
    """Whether a run met a number that is not finite, in its networks or in its action."""
    if run.state == "failed" and "finite" in (run.error or ""):
        return True
    ended = run.finished and run.final_return is None
    return ended or any(math.isnan(x) for series in run.probes.values() for x in series.values())


def _change(run: RunResults, probe: str) -> float | None:
    """Return a probe's last value as a share of its first."""
    values = [x for x in run.probes.get(probe, {}).values() if not math.isnan(x)]
    return values[-1] / values[0] if len(values) > 1 and values[0] > 0 else None
