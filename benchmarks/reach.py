"""dmc/reacher-hard: gains of inverse kinematics and PD by search, and what they are paid.

    .venv/bin/python benchmarks/reach.py

It takes a few minutes. Gains are searched on the episodes of seeds 0 to 7 and judged on others.
"""

from __future__ import annotations

import itertools

import numpy as np

from kanbatsu.envs.make import make
from kanbatsu.envs.reach_control import Gains, control

TASK = "dmc/reacher-hard"
ANGLES, SPEEDS = (2.0, 4.0, 8.0, 16.0), (0.25, 0.5, 1.0, 2.0)
SEARCHED, JUDGED = range(8), range(1_000, 1_040)


def paid(gains: Gains | None, seeds: range) -> np.ndarray:
    """Return what each episode pays; None is no torque."""
    environment, totals = make(TASK), []
    act = (lambda obs: np.zeros(2)) if gains is None else control(gains)
    for seed in seeds:
        obs, total, over = environment.reset(seed), 0.0, False
        while not over:
            step = environment.step(act(obs))
            obs, total, over = step.obs, total + step.reward, step.terminated or step.truncated
        totals.append(total)
    environment.close()
    return np.array(totals)


def main() -> None:
    """Print what was found."""
    grid = [Gains(*pair) for pair in itertools.product(ANGLES, SPEEDS)]
    tuned = max(grid, key=lambda gains: paid(gains, SEARCHED).mean())
    print(f"gains: {tuned}")
    for name, gains in (("tuned", tuned), ("no torque", None)):
        returns = paid(gains, JUDGED)
        error = 1.96 * returns.std(ddof=1) / np.sqrt(returns.size)
        print(f"  {name:<10} {returns.mean():7.1f} +- {error:.1f} (95 %, {returns.size} episodes)")


if __name__ == "__main__":
    main()
