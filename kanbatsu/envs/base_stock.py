"""Echelon base-stock: what a planner would do in a supply chain, and levels that suit it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from kanbatsu.envs.inventory import CHAINS, Chain, Stock, advance, draw_demand, draw_stock

LEVELS = {
    "inventory/serial": (4.125, 6.1875, 8.1875, 10.1875),
    "inventory/seasonal": (5.0625, 7.75, 10.3125, 12.75),
}
"""Levels that `search` finds for each task from seed 0 with 256 episodes
(benchmarks/inventory.py)."""


def orders(
    chain: Chain, stock: Stock, levels: Float[np.ndarray, " stages"]
) -> Float[np.ndarray, "*many stages"]:
    """Order so that each echelon's position comes up to its level.

    The position of a stage's echelon is all that is on hand at it and at the stages after it, on
    the way to them or ordered by it and not shipped yet, less what customers are owed.

    Args:
        chain: for the largest order.
        stock: at the end of the period before.
        levels: one level per stage.

    Returns:
        The orders, between 0 and the largest that there can be.

    Example:
        >>> chain = Chain(holding=(0.5, 0.2), lead_times=(1, 1))
        >>> stock = Stock(np.array([1.0, 3.0]), np.array([0.0, 0.5]), np.array([[1.0], [0.0]]))
        >>> orders(chain, stock, np.array([4.0, 5.0])).tolist()  # positions 2.5 and 5.0
        [1.5, 0.0]

    Reference:
        Clark and Scarf 1960, "Optimal Policies for a Multi-Echelon Inventory Problem": no policy
        is better where demand is independent and alike in all periods and orders are not limited.
    """
    local = stock.on_hand + stock.coming.sum(-1)
    # What the stage behind owes is ordered and not on its way; between two stages of one echelon
    # it is on hand behind already.
    waiting = np.zeros_like(local)
    waiting[..., :-1] = stock.owed[..., 1:]
    position = np.cumsum(local, -1) + waiting - stock.owed[..., :1]
    return np.clip(levels - position, 0.0, chain.largest_order)


def policy(task: str) -> Callable[[Float[np.ndarray, " obs_dim"]], Float[np.ndarray, " stages"]]:
    """Return the base-stock policy of a task as a function of an observation to orders.

    Args:
        task: `inventory/serial` or `inventory/seasonal`.

    Returns:
        A function of the task's observation; the orders are in its units, from 0 to the largest.

    Example:
        >>> from kanbatsu.envs.inventory import load
        >>> policy("inventory/serial")(load("inventory/serial").reset(seed=0)).shape
        (4,)
    """
    chain, levels = CHAINS[task], np.array(LEVELS[task])
    used = np.arange(max(chain.lead_times)) < np.array(chain.lead_times)[:, None]

    def ordered(obs: Float[np.ndarray, " obs_dim"]) -> Float[np.ndarray, " stages"]:
        numbers, stages = np.asarray(obs, np.float64), chain.stages
        coming = np.zeros(used.shape)
        coming[used] = numbers[2 * stages : 2 * stages + used.sum()]
        stock = Stock(numbers[:stages], numbers[stages : 2 * stages], coming)
        return orders(chain, stock, levels)

    return ordered


def serial() -> Callable[[Float[np.ndarray, " obs_dim"]], Float[np.ndarray, " stages"]]:
    """Return the base-stock policy of inventory/serial: an incumbent by name.

    Example:
        >>> serial()(np.zeros(17)).tolist()  # nothing on hand: as much as can be ordered
        [2.0, 2.0, 2.0, 2.0]
    """
    return policy("inventory/serial")


def seasonal() -> Callable[[Float[np.ndarray, " obs_dim"]], Float[np.ndarray, " stages"]]:
    """Return the base-stock policy of inventory/seasonal: an incumbent by name.

    Example:
        >>> seasonal()(np.ones(19)).tolist()  # positions 3, 6, 9 and 11
        [2.0, 1.75, 1.3125, 1.75]
    """
    return policy("inventory/seasonal")


def returns(
    chain: Chain, levels: Float[np.ndarray, " stages"], seeds: range
) -> Float[np.ndarray, " episodes"]:
    """Return what episodes of these seeds pay the policy; they are those of the task itself."""
    generators = [np.random.default_rng(seed) for seed in seeds]
    stocks = [draw_stock(chain, generator) for generator in generators]
    demand = np.stack([draw_demand(chain, generator)[0] for generator in generators])
    stock = Stock(*(np.stack(part) for part in zip(*stocks, strict=True)))
    total = np.zeros(len(seeds))
    for period in range(chain.periods):
        ordered = orders(chain, stock, levels)
        stock, cost = advance(chain, stock, ordered, demand[:, period])
        total -= cost
    return total


def search(
    chain: Chain, seeds: range = range(256), smallest: float = 0.05
) -> Float[np.ndarray, " stages"]:
    """Find levels that pay most on the same episodes: one level at a time, in halving steps.

    It starts from the mean demand over each echelon's lead time, tries a step up and a step down
    for each level, keeps what pays more, and halves the step when nothing does.

    Args:
        chain: the supply chain.
        seeds: the episodes that levels are judged by; compare policies on others.
        smallest: step at which the search ends, in units of the mean demand.

    Returns:
        The levels, multiples of a power of two.
    """
    levels = np.cumsum(np.array(chain.lead_times, np.float64) + 1.0)
    best, step = returns(chain, levels, seeds).mean(), 1.0
    while step >= smallest:
        improved = False
        for stage in range(chain.stages):
            for change in (step, -step):
                tried = levels.copy()
                tried[stage] += change
                if (paid := returns(chain, tried, seeds).mean()) > best:
                    levels, best, improved = tried, paid, True
        if not improved:
            step /= 2
    return levels


def baseline(task: str, seeds: range) -> Float[np.ndarray, " episodes"]:
    """Return what the base-stock policy is paid on a task's episodes.

    Example:
        >>> bool((baseline("inventory/serial", range(4)) < 0).all())
        True
    """
    return returns(CHAINS[task], np.array(LEVELS[task]), seeds)
