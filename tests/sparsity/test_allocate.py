"""Allocation: reference tables, exact totals, and errors that say what would work."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kanbatsu.sparsity.allocate import allocate
from kanbatsu.sparsity.config import DISTRIBUTIONS

# From the allocation function of the paper's public code (SparseNetwork4DRL, first release).
TABLES = json.loads((Path(__file__).parent / "erk_allocation.json").read_text())

SHAPES = st.lists(
    st.lists(st.integers(1, 40), min_size=2, max_size=4).map(tuple), min_size=1, max_size=6
)


@pytest.mark.parametrize("table", TABLES, ids=lambda t: f"{t['network']}-{t['sparsity']}")
def test_erk_agrees_with_the_public_code(table):
    shapes = [tuple(shape) for shape in table["shapes"].values()]
    kept = allocate(shapes, table["sparsity"], "erk")
    for count, shape, (layer, sparsity) in zip(
        kept, shapes, table["layer_sparsity"].items(), strict=True
    ):
        # A whole weight is the finest step there is: small layers cannot come closer than half.
        tolerance = max(1e-4, 1.0 / math.prod(shape))
        assert 1 - count / math.prod(shape) == pytest.approx(sparsity, abs=tolerance), layer


def test_uniform_by_hand():
    assert allocate([(2, 5), (4, 5)], 0.5, "uniform") == (5, 10)


def test_er_by_hand():
    # 46 weights, half kept = 23; densities go as (n_in + n_out) / (n_in n_out): shares 7 and 12.
    # The window of the convolution counts as extra weights but not in the density.
    assert allocate([(3, 4), (5, 7)], 0.5, "er") == (9, 15)
    assert allocate([(2, 3, 4), (5, 7)], 0.5, "er") == (16, 14)


def test_erk_by_hand_keeps_a_small_layer_whole_and_shares_the_rest():
    # 12 + 400 = 412 weights, half kept = 206; raw shares 7 and 40: 7 / 47 of 206 = 30.7 > 12.
    assert allocate([(3, 4), (20, 20)], 0.5, "erk") == (12, 194)


def test_erk_counts_the_window():
    # raw shares 2 + 3 + 4 = 9 and 5 + 7 = 12 of 30 kept: 12.857 and 17.143.
    assert allocate([(2, 3, 4), (5, 7)], 1 - 30 / 59, "erk") == (13, 17)


@settings(deadline=None, max_examples=200)
@given(SHAPES, st.floats(0, 0.99), st.sampled_from(DISTRIBUTIONS))
def test_totals_are_exact_and_no_layer_is_empty_or_overfull(shapes, sparsity, distribution):
    total = sum(math.prod(shape) for shape in shapes)
    target = round((1 - sparsity) * total)
    if target < len(shapes):
        with pytest.raises(ValueError, match="highest sparsity that can be met"):
            allocate(shapes, sparsity, distribution)
        return
    kept = allocate(shapes, sparsity, distribution)
    assert sum(kept) == target
    assert all(1 <= k <= math.prod(s) for k, s in zip(kept, shapes, strict=True))


@settings(deadline=None)
@given(SHAPES, st.floats(0, 0.9))
def test_steps_are_respected_and_the_total_stays_within_one_step(shapes, sparsity):
    steps = [shape[-1] for shape in shapes]
    target = round((1 - sparsity) * sum(math.prod(shape) for shape in shapes))
    if target < sum(steps):
        return
    kept = allocate(shapes, sparsity, "erk", steps)
    assert all(k % step == 0 and k >= step for k, step in zip(kept, steps, strict=True))
    assert target - max(steps) < sum(kept) <= target


def test_no_sparsity_keeps_everything():
    assert allocate([(3, 4), (4, 5)], 0.0, "erk") == (12, 20)


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, 1.5, float("nan")])
def test_a_sparsity_outside_its_range_is_refused(sparsity):
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\)"):
        allocate([(3, 4)], sparsity)


def test_the_highest_sparsity_that_is_named_can_be_met():
    with pytest.raises(ValueError, match=r"can be met is 0\.9375") as error:
        allocate([(4, 4), (4, 4)], 0.97)
    highest = float(str(error.value).rsplit(" ", 1)[1])
    assert allocate([(4, 4), (4, 4)], highest) == (1, 1)


def test_nothing_to_prune_and_unknown_names_are_refused():
    with pytest.raises(ValueError, match="nothing to prune"):
        allocate([], 0.5)
    with pytest.raises(ValueError, match="unknown distribution 'erdos'"):
        allocate([(3, 4)], 0.5, "erdos")
