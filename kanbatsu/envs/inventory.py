"""Inventory: a serial supply chain whose stages order from one another once a period."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32

from kanbatsu.envs.spec import Timestep, bounds, rescale, unknown_task
from kanbatsu.types import Spec


@dataclass(frozen=True)
class Chain:
    """A serial supply chain; stage 0 serves the customers, the last buys from outside.

    Quantities are in units of the mean demand per period.
    """

    holding: tuple[float, ...] = (0.2, 0.15, 0.1, 0.05)
    """Cost of each unit on hand at the end of a period, by stage."""
    lead_times: tuple[int, ...] = (2, 2, 2, 2)
    """Periods from shipment to arrival, by receiving stage; at least 1."""
    backlog: float = 1.0
    """Cost of each unit that customers are still owed at the end of a period."""
    largest_order: float = 2.0
    """Most that a stage can order in one period."""
    shape: float = 9.0
    """Shape of the demand's gamma distribution: the deviation is the mean over its root."""
    swing: float = 0.0
    """Share of the mean by which demand rises and falls over a year; 0 for no seasons."""
    year: int = 26
    """Periods of one season's cycle."""
    periods: int = 100
    """Until an episode is cut off."""

    @property
    def stages(self) -> int:
        """Number of stages that order."""
        return len(self.holding)


class Stock(NamedTuple):
    """Location of every unit; leading axes are allowed, so that many chains move at once."""

    on_hand: Float[np.ndarray, "*many stages"]
    owed: Float[np.ndarray, "*many stages"]
    """Units that a stage has been asked for and has not shipped yet."""
    coming: Float[np.ndarray, "*many stages longest"]
    """Units that arrive at a stage at the beginning of the next period, of the one after, ..."""


def advance(
    chain: Chain,
    stock: Stock,
    orders: Float[np.ndarray, "*many stages"],
    demand: Float[np.ndarray, "*many"] | float,
) -> tuple[Stock, Float[np.ndarray, "*many"] | float]:
    """Live through one period.

    What is due arrives; each stage orders from the next; customers ask for `demand`; each stage
    ships what it has of what it owes, and owes the rest; the cost is counted. Outside there is
    always enough.

    Args:
        chain: costs and lead times.
        stock: at the end of the period before.
        orders: of each stage, at least 0.
        demand: of the customers, at least 0; one number for a chain alone.

    Returns:
        The stock at the end of the period, and the period's cost.

    Example:
        >>> chain = Chain(holding=(0.5,), lead_times=(1,))
        >>> stock = Stock(np.array([1.0]), np.array([0.0]), np.array([[2.0]]))
        >>> stock, cost = advance(chain, stock, np.array([1.5]), 1.0)
        >>> stock.on_hand.tolist(), stock.coming.tolist(), float(cost)  # 1 + 2 - 1 are left
        ([2.0], [[1.5]], 1.0)
    """
    on_hand = stock.on_hand + stock.coming[..., 0]
    owed = stock.owed.copy()
    owed[..., 0] += demand
    owed[..., 1:] += orders[..., :-1]
    shipped = np.minimum(on_hand, owed)
    on_hand, owed = on_hand - shipped, owed - shipped
    coming = np.zeros_like(stock.coming)
    coming[..., :-1] = stock.coming[..., 1:]
    for stage, lead_time in enumerate(chain.lead_times):
        last = stage == chain.stages - 1
        coming[..., stage, lead_time - 1] += orders[..., -1] if last else shipped[..., stage + 1]
    return Stock(on_hand, owed, coming), on_hand @ chain.holding + chain.backlog * owed[..., 0]


def draw_demand(
    chain: Chain, generator: np.random.Generator
) -> tuple[Float[np.ndarray, " periods"], float]:
    """Draw the demand of one episode, and the season at which it begins, a share of a year."""
    begins = float(generator.uniform())
    season = 2 * np.pi * (begins + np.arange(chain.periods) / chain.year)
    mean = 1.0 + chain.swing * np.sin(season)
    return generator.gamma(chain.shape, mean / chain.shape), begins


def draw_stock(chain: Chain, generator: np.random.Generator) -> Stock:
    """Draw the stock at the beginning: 0 to 4 units on hand, and one in each place on the way."""
    coming = np.zeros((chain.stages, max(chain.lead_times)))
    for stage, lead_time in enumerate(chain.lead_times):
        coming[stage, :lead_time] = 1.0
    return Stock(generator.uniform(0.0, 4.0, chain.stages), np.zeros(chain.stages), coming)


class Inventory:
    """A supply chain as a task: how much should each stage order in every period?

    The action is the order of each stage, from nothing at -1 to `largest_order` at 1. The
    observation is, by stage, what is on hand, what is owed and what is on its way, then the last
    demand, and with seasons the sine and cosine of the season. The reward is the negative cost of
    the period. An episode is cut off after `periods`; it never terminates.

    Args:
        chain: what is ordered, when it arrives and what it costs.

    Example:
        >>> environment = Inventory(Chain())
        >>> environment.spec
        Spec(obs_shape=(17,), action_dim=4, episode_length=100)
        >>> environment.reset(seed=0).shape, environment.step(np.zeros(4)).reward < 0
        ((17,), True)

    Reference:
        Clark and Scarf 1960, "Optimal Policies for a Multi-Echelon Inventory Problem", for the
        serial system with linear costs; Sterman 1989, "Modeling Managerial Behavior", for the four
        stages of the beer game and its two-period shipping delays; Hubbs et al. 2020, "OR-Gym",
        arXiv:2008.06319, for such a chain as a task for reinforcement learning.
    """

    def __init__(self, chain: Chain) -> None:
        self.chain, self.action_repeat = chain, 1
        ways = sum(chain.lead_times)
        self.spec = Spec(
            obs_shape=(2 * chain.stages + ways + 1 + 2 * bool(chain.swing),),
            action_dim=chain.stages,
            episode_length=chain.periods,
            **bounds(np.zeros(chain.stages), np.full(chain.stages, chain.largest_order)),
        )
        longest = np.arange(max(chain.lead_times))
        self._used = longest < np.array(chain.lead_times)[:, None]
        self._least = np.zeros(chain.stages)
        self._most = np.full(chain.stages, chain.largest_order)
        self._period, self._orders = 0, np.zeros(chain.stages)

    def reset(self, seed: int) -> Float32[np.ndarray, " obs_dim"]:
        """Draw the episode's stock and the whole of its demand."""
        generator = np.random.default_rng(seed)
        self.stock = draw_stock(self.chain, generator)
        self._demand, self._begins = draw_demand(self.chain, generator)
        self._period, self._orders = 0, np.zeros(self.chain.stages)
        return self._observe(last_demand=1.0)

    def step(self, action: Float[np.ndarray, " stages"]) -> Timestep:
        """Order, before the period's demand is known."""
        orders = rescale(np.asarray(action, np.float64), self._least, self._most)
        demand = self._demand[self._period]
        self._orders = orders
        self.stock, cost = advance(self.chain, self.stock, orders, demand)
        self._period += 1
        over = self._period == self.chain.periods
        return Timestep(self._observe(demand), -float(cost), terminated=False, truncated=over)

    def gauges(self) -> dict[str, dict[str, float]]:
        """Return the numbers of a chart at this moment, by panel and name."""
        stages = [f"stage {stage + 1}" for stage in range(self.chain.stages)]
        demand = self._demand[max(self._period - 1, 0)]
        return {
            "on hand": dict(zip(stages, map(float, self.stock.on_hand), strict=True)),
            "orders": dict(zip(stages, map(float, self._orders), strict=True)),
            "customers": {"demand": float(demand), "owed": float(self.stock.owed[0])},
        }

    def close(self) -> None:
        """Nothing to let go of."""

    def _observe(self, last_demand: float) -> Float32[np.ndarray, " obs_dim"]:
        on_hand, owed, coming = self.stock
        known = [*on_hand, *owed, *coming[self._used], last_demand]
        if self.chain.swing:
            season = 2 * math.pi * (self._begins + self._period / self.chain.year)
            known += [math.sin(season), math.cos(season)]
        return np.array(known, np.float32)


CHAINS = {
    "inventory/serial": Chain(),
    "inventory/seasonal": Chain(swing=0.5),
}
"""The tasks by name."""


def load(task: str) -> Inventory:
    """Build the supply chain that `inventory/<name>` names.

    Raises:
        TaskError: no such name.
    """
    if task not in CHAINS:
        raise unknown_task(task, CHAINS)
    return Inventory(CHAINS[task])
