"""The inventory tasks: base-stock levels, what they are paid, and steps per second.

    .venv/bin/python benchmarks/inventory.py

It takes seconds. Levels are searched on the episodes of seeds 0 to 255 and judged on others.
"""

from __future__ import annotations

import time

import numpy as np

from kanbatsu.envs import base_stock
from kanbatsu.envs.inventory import CHAINS, Inventory

JUDGED = range(10_000, 11_000)


def simple(environment: Inventory, random: bool) -> np.ndarray:
    """Return what 100 episodes pay random orders, or orders of the mean demand."""
    generator = np.random.default_rng(0)
    totals = []
    for seed in JUDGED[:100]:
        environment.reset(seed)
        total, over = 0.0, False
        while not over:
            step = environment.step(generator.uniform(-1, 1, 4) if random else np.zeros(4))
            total, over = total + step.reward, step.truncated
        totals.append(total)
    return np.array(totals)


def main() -> None:
    """Print one block per task."""
    for task, chain in CHAINS.items():
        levels = base_stock.search(chain)
        paid = base_stock.returns(chain, levels, JUDGED)
        error = 1.96 * paid.std(ddof=1) / np.sqrt(paid.size)
        environment = Inventory(chain)
        began = time.perf_counter()
        random = simple(environment, random=True)
        rate = 100 * chain.periods / (time.perf_counter() - began)
        print(f"{task}: levels {levels.tolist()}")
        print(f"  base-stock    {paid.mean():8.2f} +- {error:.2f} (95 %, {paid.size} episodes)")
        print(f"  mean demand   {simple(environment, random=False).mean():8.2f}")
        print(f"  random orders {random.mean():8.2f}")
        print(f"  {rate:,.0f} steps per second")


if __name__ == "__main__":
    main()
