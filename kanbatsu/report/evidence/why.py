"""What is known of why pruning helps, and how probes relate to returns in stored runs: docs/why.md.

Two relations are measured, both between a probe early in a run and the return at its end. Within an
arm, seeds differ in nothing but their draws: rank correlations of the arms are pooled. Between arms
of a study, networks differ: it is counted how often the arm with the higher probe returned more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit
from scipy.stats import rankdata

from kanbatsu.report.effect import Effect
from kanbatsu.report.evidence.stored import Evidence, difference
from kanbatsu.report.evidence.tables import table
from kanbatsu.report.results import ArmResults
from kanbatsu.report.words import DASH, agent_name

EARLY = 0.25
"""Share of a run at which the probe is taken: the first one there or after it."""
LEAST_SEEDS = 5
"""Fewest seeds with which an arm counts: Fisher's z needs more than three."""
PROBES = {
    "critic/dormant_0.1": "critic: dormant ratio",
    "critic/srank": "critic: srank",
    "critic/gradient_norm": "critic: gradient norm",
    "critic/weight_norm": "critic: weight norm",
    "critic/feature_norm": "critic: feature norm",
    "actor/dormant_0.1": "actor: dormant ratio",
    "actor/srank": "actor: srank",
}
AGENTS = ("ddpg", "sac", "stream_q", "stream_ac", "pqn")
SAMPLES = 2_000
"""Draws of a bootstrap."""
TEXT = Path(__file__).with_suffix(".md")
"""The page without its tables."""
HEAD = [
    "probe, early",
    "within an arm",
    "arms",
    "runs",
    "between arms",
    "pairs",
    "studies and tasks",
]


class Relation(NamedTuple):
    """A relation with its interval, and what it was pooled from."""

    effect: Effect
    groups: int
    """Arms, or pairs of arms."""
    sources: int
    """Runs, or studies and tasks."""


def render(stored: Sequence[Evidence]) -> str:
    """Return the page's text."""
    by_agent = {agent: list(rows(stored, agent)) for agent in AGENTS}
    tables = [
        f"### {agent_name(it)}\n\n{table(HEAD, lines)}" for it, lines in by_agent.items() if lines
    ]
    return TEXT.read_text(encoding="utf-8").format(least=LEAST_SEEDS, tables="\n\n".join(tables))


def rows(stored: Sequence[Evidence], agent: str) -> Iterator[list[str]]:
    """Yield a row for each probe that runs of an agent have."""
    for name, title in PROBES.items():
        inside, across = within(stored, agent, name), between(stored, agent, name)
        if inside is not None:
            yield [
                title,
                difference(inside.effect),
                str(inside.groups),
                f"{inside.sources:,}",
                DASH if across is None else _shown(across.effect),
                DASH if across is None else str(across.groups),
                DASH if across is None else str(across.sources),
            ]


def within(stored: Sequence[Evidence], agent: str, probe: str) -> Relation | None:
    """Pool the rank correlations of early probe and final return over all arms of an agent."""
    pairs = [x for arms in _arms(stored, agent, probe) for x in arms if x.shape[1] >= LEAST_SEEDS]
    pairs = [x for x in pairs if np.ptp(x, axis=1).min() > 0]  # no ranks where all are alike
    if len(pairs) < 2:
        return None
    return Relation(pooled(pairs), len(pairs), sum(x.shape[1] for x in pairs))


def pooled(pairs: Sequence[np.ndarray]) -> Effect:
    """Return the pooled rank correlation of several samples, with Hartung and Knapp's interval.

    Args:
        pairs: `[2, n]` each, more than three samples long.

    Example:
        >>> x = np.arange(6.0)
        >>> estimate = pooled([np.stack([x, x**2 % 11]), np.stack([x, -x]), np.stack([x, -x])])
        >>> bool(estimate.low < estimate.value < estimate.high <= 1)
        True
    """
    z = np.arctanh(np.clip([spearman(*x) for x in pairs], -0.99, 0.99))
    weights = np.array([x.shape[1] - 3.0 for x in pairs])
    weights /= weights.sum()
    centre = weights @ z
    error = np.sqrt(weights @ (z - centre) ** 2 / (len(pairs) - 1))
    half = stdtrit(len(pairs) - 1, 0.975) * error
    return Effect(*np.tanh([centre, centre - half, centre + half]))


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Return the correlation of ranks; tied values share theirs.

    Example:
        >>> round(spearman(np.array([1.0, 2.0, 4.0]), np.array([9.0, 5.0, 7.0])), 3)
        -0.5
    """
    return float(np.corrcoef(rankdata(x), rankdata(y))[0, 1])


def between(stored: Sequence[Evidence], agent: str, probe: str) -> Relation | None:
    """Count in how many pairs of arms the one with the higher early probe returned more."""
    signs = []
    for arms in _arms(stored, agent, probe):
        means = [x.mean(axis=1) for x in arms]
        here = [float(np.prod(np.sign(a - b))) for a, b in combinations(means, 2)]
        signs += [here] if here else []
    if not signs:
        return None
    value = np.float64(np.mean(np.concatenate(signs)))
    low = high = np.float64(np.nan)
    if len(signs) >= LEAST_SEEDS:
        rng = np.random.default_rng(0)
        drawn = rng.integers(len(signs), size=(SAMPLES, len(signs)))
        sums, counts = np.array([sum(x) for x in signs]), np.array([len(x) for x in signs])
        shares = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
        low, high = np.percentile(shares, [2.5, 97.5])
    return Relation(Effect(value, low, high), sum(map(len, signs)), len(signs))


def _shown(effect: Effect) -> str:
    return difference(effect) if np.isfinite(effect.low) else f"{effect.value:+.2f}"


def _arms(stored: Sequence[Evidence], agent: str, probe: str) -> Iterator[list[np.ndarray]]:
    """Yield, for each study and task, each arm's early probes and final returns, `[2, seeds]`."""
    for evidence in stored:
        study = evidence.study
        for task in study.tasks:
            arms = [
                _early_and_final(arm, task, probe, EARLY * study.env_steps)
                for arm in study.arms
                if arm.agent == agent
            ]
            yield [x for x in arms if x.shape[1] > 0]


def _early_and_final(arm: ArmResults, task: str, probe: str, after: float) -> np.ndarray:
    pairs = []
    for run in arm.on(task):
        steps = list(run.probes.get(probe, {}).items())
        early = next((value for at, value in steps[:-1] if at >= after), None)
        if early is not None and np.isfinite(early) and run.final_return is not None:
            pairs.append((early, run.final_return))
    return np.array(pairs, dtype=float).reshape(-1, 2).T
