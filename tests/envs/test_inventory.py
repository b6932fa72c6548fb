"""Supply chains: periods computed by hand, nothing lost or made, each demand its own seed."""

import numpy as np
import pytest
from scipy import stats

from kanbatsu.envs import base_stock
from kanbatsu.envs.inventory import CHAINS, Chain, Inventory, Stock, advance, draw_demand
from kanbatsu.envs.make import make
from kanbatsu.envs.spec import Environment, TaskError

TWO = Chain(holding=(0.5, 0.25), lead_times=(1, 2), backlog=2.0)


def stock(on_hand: list, owed: list, coming: list) -> Stock:
    return Stock(*(np.array(part, np.float64) for part in (on_hand, owed, coming)))


def rows(state: Stock) -> list:
    return [part.tolist() for part in state]


def test_two_periods_by_hand() -> None:
    before = stock([1, 2], [0, 0.5], [[0.5, 0], [1, 4]])
    # Arrivals: 1.5 and 3. Customers want 2: 1.5 go, 0.5 is owed. Stage 0 orders 3, and 0.5 was
    # owed to it: 3 go, 0.5 is owed. Stage 1 orders 1 from outside, which comes two periods later.
    after, cost = advance(TWO, before, np.array([3.0, 1.0]), 2.0)
    assert rows(after) == [[0, 0], [0.5, 0.5], [[3, 0], [4, 1]]]
    assert cost == 2.0 * 0.5
    # Arrivals: 3 and 4. Customers get the 0.5 owed and 1: 1.5 are left. Stage 0 orders nothing
    # and gets the 0.5 owed: 3.5 are left at stage 1.
    after, cost = advance(TWO, after, np.array([0.0, 0.0]), 1.0)
    assert rows(after) == [[1.5, 3.5], [0, 0], [[0.5, 0], [1, 0]]]
    assert cost == 0.5 * 1.5 + 0.25 * 3.5


def test_advance_leaves_the_stock_before_as_it_was() -> None:
    before = stock([1, 2], [0, 0.5], [[0.5, 0], [1, 4]])
    advance(TWO, before, np.array([3.0, 1.0]), 2.0)
    assert rows(before) == [[1, 2], [0, 0.5], [[0.5, 0], [1, 4]]]


def test_many_chains_at_once_are_each_alone() -> None:
    rng = np.random.default_rng(0)
    many = Stock(*(rng.uniform(0, 2, shape) for shape in [(5, 2), (5, 2), (5, 2, 2)]))
    orders, demand = rng.uniform(0, 2, (5, 2)), rng.uniform(0, 2, 5)
    together, costs = advance(TWO, many, orders, demand)
    for index in range(5):
        alone, cost = advance(
            TWO, Stock(*(part[index] for part in many)), orders[index], float(demand[index])
        )
        assert all(np.array_equal(a[index], b) for a, b in zip(together, alone, strict=True))
        assert costs[index] == pytest.approx(cost)


@pytest.mark.parametrize("task", CHAINS)
def test_units_are_bought_held_on_the_way_or_sold(task: str) -> None:
    environment, rng = make(task), np.random.default_rng(1)
    environment.reset(seed=5)
    inside = lambda: environment.stock.on_hand.sum() + environment.stock.coming.sum()  # noqa: E731
    for _ in range(100):
        before, owed = inside(), environment.stock.owed[0]
        action = rng.uniform(-1, 1, 4)
        step = environment.step(action)
        demand = environment._demand[environment._period - 1]
        sold = demand + owed - environment.stock.owed[0]
        assert inside() == pytest.approx(before + (action[-1] + 1) - sold)
        assert (environment.stock.on_hand * environment.stock.owed == 0).all()
        assert not step.terminated
    assert step.truncated


@pytest.mark.parametrize("task", CHAINS)
def test_an_episode_is_a_function_of_its_seed_and_actions(task: str) -> None:
    environment, other = make(task), make(task)
    assert isinstance(environment, Environment)
    other.reset(seed=1)
    other.step(np.ones(4))
    first = environment.reset(seed=7)
    assert first.dtype == np.float32
    assert first.shape == (environment.spec.obs_dim,)
    assert np.array_equal(first, other.reset(seed=7))
    a, b = environment.step(np.full(4, 0.3)), other.step(np.full(4, 0.3))
    assert np.array_equal(a.obs, b.obs)
    assert a.reward == b.reward
    assert not np.array_equal(first, environment.reset(seed=8))


def test_demand_has_the_mean_spread_and_season_that_it_says() -> None:
    plain = np.stack([draw_demand(Chain(), np.random.default_rng(s))[0] for s in range(400)])
    assert plain.mean() == pytest.approx(1.0, abs=0.01)
    assert plain.std() == pytest.approx(1 / 3, abs=0.01)
    chain = Chain(swing=0.5, shape=1e6)  # hardly any chance left
    demand, begins = draw_demand(chain, np.random.default_rng(0))
    expected = 1 + 0.5 * np.sin(2 * np.pi * (begins + np.arange(100) / 26))
    assert demand == pytest.approx(expected, rel=0.01)


def test_the_season_is_seen() -> None:
    environment = make("inventory/seasonal")
    begins = np.arctan2(*environment.reset(seed=3)[-2:]) / (2 * np.pi)
    after = np.arctan2(*environment.step(np.zeros(4)).obs[-2:]) / (2 * np.pi)
    assert (after - begins) % 1 == pytest.approx(1 / 26, abs=1e-6)


def test_base_stock_orders_by_hand() -> None:
    chain = Chain(holding=(0.5, 0.2), lead_times=(1, 1))
    now = stock([0, 2], [1.5, 0], [[0.5], [1]])
    # Positions: 0.5 - 1.5 = -1 and 0.5 + 3 - 1.5 = 2.
    assert base_stock.orders(chain, now, np.array([0.5, 2.25])).tolist() == [1.5, 0.25]
    assert base_stock.orders(chain, now, np.array([9.0, 0.0])).tolist() == [2.0, 0.0]


def test_the_baseline_is_paid_what_the_environment_pays() -> None:
    environment = make("inventory/seasonal")
    levels = np.array(base_stock.LEVELS["inventory/seasonal"])
    environment.reset(seed=11)
    total, over = 0.0, False
    while not over:
        ordered = base_stock.orders(environment.chain, environment.stock, levels)
        step = environment.step(ordered - 1.0)  # from 0..2 to -1..1
        total, over = total + step.reward, step.truncated
    assert base_stock.baseline("inventory/seasonal", range(11, 12))[0] == pytest.approx(total)


def test_one_stage_is_the_newsvendor() -> None:
    # Scarf's classic: the level is the b / (b + h) quantile of the demand of lead time + 1 periods.
    chain = Chain(holding=(0.5,), lead_times=(2,), backlog=2.0, periods=400)
    (found,) = base_stock.search(chain, range(64))
    assert found == pytest.approx(stats.gamma.ppf(0.8, 3 * 9, scale=1 / 9), abs=0.08)


@pytest.mark.parametrize("task", CHAINS)
def test_the_levels_are_where_the_search_ends(task: str) -> None:
    levels, episodes = np.array(base_stock.LEVELS[task]), range(256)
    best = base_stock.baseline(task, episodes).mean()
    for stage in range(4):
        for change in (-0.0625, 0.0625):
            moved = levels + change * (np.arange(4) == stage)
            assert base_stock.returns(CHAINS[task], moved, episodes).mean() < best


def test_what_a_chain_cannot_do_is_refused() -> None:
    with pytest.raises(TaskError, match="Did you mean 'inventory/seasonal'"):
        make("inventory/sesonal")
    with pytest.raises(TaskError, match="by itself: leave action_repeat unset"):
        make("inventory/serial", 2)
    with pytest.raises(TaskError, match="continuous actions"):
        make("inventory/serial", discrete=True)
    with pytest.raises(TaskError, match="Did you mean 'inventory/serial'"):
        make("inventry/serial")


def test_unequal_lead_times_are_seen_one_place_each() -> None:
    environment = Inventory(TWO)
    assert environment.reset(seed=0).size == environment.spec.obs_dim == 2 + 2 + 3 + 1
