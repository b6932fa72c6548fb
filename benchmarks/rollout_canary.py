"""How often a canary is stopped: of an equal candidate (wrongly), and of a harmful one (rightly).

    .venv/bin/python benchmarks/rollout_canary.py

1,000 simulated rollouts of 1,000 episodes each, with a look after every episode, alpha = 0.05 (half
for returns, half for violations). It takes a minute or two and writes
benchmarks/results/rollout_canary.json.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from kanbatsu.rollout.sequential import Difference

RESULT = Path(__file__).parent / "results" / "rollout_canary.json"
RUNS, EPISODES, ALPHA = 1000, 1000, 0.05
Draw = Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]]
"""Outcomes in [0, 1] of the incumbent's and the candidate's episode, `[runs]` each."""


def normal(spread: float, harm: float = 0.0) -> Draw:
    """Returns around 0.6 of their range, the candidate's lower by `harm`."""

    def draw(generator: np.random.Generator, episode: int) -> tuple[np.ndarray, np.ndarray]:
        theirs, ours = generator.normal(0.6, spread, (2, RUNS))
        return theirs.clip(0.0, 1.0), (ours - harm).clip(0.0, 1.0)

    return draw


def drifting(generator: np.random.Generator, episode: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns that fall from 0.9 to 0.1 for both, as a plant that wears out."""
    theirs, ours = generator.normal(0.9 - 0.8 * episode / EPISODES, 0.05, (2, RUNS))
    return theirs.clip(0.0, 1.0), ours.clip(0.0, 1.0)


def violating(incumbent: float, candidate: float) -> Draw:
    """Episodes with a violation, at two rates; the outcome is 1 without."""

    def draw(generator: np.random.Generator, episode: int) -> tuple[np.ndarray, np.ndarray]:
        theirs, ours = generator.random((2, RUNS))
        return (theirs >= incumbent).astype(float), (ours >= candidate).astype(float)

    return draw


EQUAL: dict[str, Draw] = {
    "returns, deviation 0.05 of their range": normal(0.05),
    "returns, deviation 0.2": normal(0.2),
    "returns that fall for both": drifting,
    "violations in 2 % of the episodes": violating(0.02, 0.02),
}
HARMFUL: dict[str, Draw] = {
    "return lower by half a deviation (0.05 of 0.1)": normal(0.1, 0.05),
    "return lower by one deviation (0.1 of 0.1)": normal(0.1, 0.1),
    "return lower by two deviations (0.2 of 0.1)": normal(0.1, 0.2),
    "violations in 20 % instead of 1 %": violating(0.01, 0.2),
}


def stops(draw: Draw, share: float) -> np.ndarray:
    """Return the episode at which each rollout is stopped; infinity where none is."""
    generator = np.random.default_rng(0)
    difference = Difference(ALPHA, (RUNS,), np.zeros(1))
    stopped = np.full(RUNS, np.inf)
    for episode in range(EPISODES):
        candidate = generator.random(RUNS) < share
        theirs, ours = draw(generator, episode)
        difference.add(np.where(candidate, ours, theirs), candidate, share)
        harmed = (difference.limits().high <= 0.0) & np.isinf(stopped)
        stopped[harmed] = episode + 1
    return stopped


def main() -> None:
    """Print one line per world and share, and write the result."""
    rows = []
    for kind, worlds in (("equal", EQUAL), ("harmful", HARMFUL)):
        for name, draw in worlds.items():
            for share in (0.1, 0.5):
                stopped = stops(draw, share)
                rate, median = float(np.isfinite(stopped).mean()), float(np.median(stopped))
                row = {"kind": kind, "world": name, "share": share, "stopped": rate}
                if np.isfinite(median):
                    row["median_episode"] = median
                rows.append(row)
                print(f"{kind:8} {name:48} share {share}: {rate:6.1%} stopped, median {median}")
    result = {"runs": RUNS, "episodes": EPISODES, "alpha": ALPHA, "rows": rows}
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
