"""The plant tasks: PI loops tuned by search, what they are paid, and steps per second.

    .venv/bin/python benchmarks/plant.py

It takes a minute. Settings are searched on the episodes of seeds 0 to 127 and judged on others.
"""

from __future__ import annotations

import time

import numpy as np

from kanbatsu.envs import pi_control
from kanbatsu.envs.four_tank import load

JUDGED = range(10_000, 11_000)


def played(random: bool) -> np.ndarray:
    """Return what 50 episodes pay random voltages, or the operating point's."""
    environment, generator, totals = load("plant/four-tank"), np.random.default_rng(0), []
    for seed in JUDGED[:50]:
        environment.reset(seed=seed)
        total, over = 0.0, False
        while not over:
            volts = generator.uniform(0.0, 10.0, 2) if random else np.array([3.0, 3.0])
            _, reward, _, over, _ = environment.step(volts)
            total += float(reward)
        totals.append(total)
    return np.array(totals)


def main() -> None:
    """Print what each controller is paid."""
    began = time.perf_counter()
    tuned = pi_control.search()
    print(f"search: {time.perf_counter() - began:.0f} s, {tuned}")
    for name, gains in (("published", pi_control.PUBLISHED), ("tuned", tuned)):
        paid = pi_control.returns(gains, JUDGED)
        error = 1.96 * paid.std(ddof=1) / np.sqrt(paid.size)
        print(f"  {name:<15} {paid.mean():9.1f} +- {error:.1f} (95 %, {paid.size} episodes)")
    began = time.perf_counter()
    constant = played(random=False)
    rate = 50 * 200 / (time.perf_counter() - began)
    print(f"  operating point {constant.mean():9.1f}")
    print(f"  random voltages {played(random=True).mean():9.1f}")
    print(f"  {rate:,.0f} steps per second")


if __name__ == "__main__":
    main()
