"""Estimators against numbers worked out by hand, and intervals against what they must obey."""

import numpy as np
import pytest

from kanbatsu.report import stats


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_iqm_drops_a_quarter_at_each_end() -> None:
    # Eight scores: two dropped at each end, (3 + 4 + 5 + 6) / 4 stays.
    assert stats.iqm(np.array([8.0, 1, 7, 2, 6, 3, 5, 4])) == 4.5
    # Five scores: a quarter is 1.25, one is dropped at each end.
    assert stats.iqm(np.array([0.0, 1, 2, 6, 1000])) == 3.0


def test_iqm_of_fewer_than_four_scores_is_their_mean() -> None:
    assert stats.iqm(np.array([1.0, 2.0, 6.0])) == 3.0
    assert stats.iqm(np.array([7.0])) == 7.0


def test_iqm_pools_tasks_and_seeds() -> None:
    assert stats.iqm(np.array([[1.0, 8], [2, 7], [3, 6], [4, 5]])) == 4.5


def test_improvement_counts_pairs_and_halves_ties() -> None:
    x, y = np.array([1.0, 2.0]), np.array([1.0, 0.0, 3.0])
    # Pairs: 1>1 tie, 1>0 win, 1<3 loss, 2>1 win, 2>0 win, 2<3 loss: 3.5 of 6.
    assert stats.improvement([x], [y]) == pytest.approx(3.5 / 6)
    assert stats.improvement([x, x + 10], [y, y]) == pytest.approx((3.5 / 6 + 1) / 2)


def test_improvement_of_one_over_the_other_adds_up_to_one() -> None:
    x, y = [rng(1).normal(size=7)], [rng(2).normal(size=5)]
    assert stats.improvement(x, y) + stats.improvement(y, x) == pytest.approx(1)
    assert stats.improvement(x, x) == 0.5


def test_improvement_needs_the_same_tasks() -> None:
    with pytest.raises(ValueError, match="zip"):
        stats.improvement([np.ones(2)], [np.ones(2), np.ones(2)])


def test_the_same_data_and_seed_give_the_same_interval() -> None:
    x, y = [np.array([1.0, 2, 3, 4, 9])], [np.array([0.0, 2, 2, 5])]
    assert stats.iqm_interval(x, rng()) == stats.iqm_interval(x, rng())
    assert stats.improvement_interval(x, y, rng()) == stats.improvement_interval(x, y, rng())
    assert stats.iqm_interval(x, rng()).value == stats.iqm_interval(x, rng(5)).value


def test_bootstrap_of_two_seeds_is_the_binomial() -> None:
    # Two seeds 0 and 1 resampled: the mean is 0, 1/2, 1 with probability 1/4, 1/2, 1/4.
    drawn = stats.bootstrap_iqm([np.array([0.0, 1.0])], rng(), samples=40_000)
    values, counts = np.unique(drawn, return_counts=True)
    assert values.tolist() == [0.0, 0.5, 1.0]
    # Four standard errors of a share of a half are 0.01.
    np.testing.assert_allclose(counts / 40_000, [0.25, 0.5, 0.25], atol=0.01)


def test_seeds_are_resampled_within_their_task_only() -> None:
    # Were seeds mixed across tasks, the mean would move; each task is constant, so it cannot.
    tasks = [np.full(4, 0.0), np.full(4, 10.0)]
    assert set(stats.bootstrap_iqm(tasks, rng(), samples=500)) == {5.0}
    assert set(stats.bootstrap_improvement(tasks, tasks[::-1], rng(), samples=500)) == {0.5}


def test_bootstrap_improvement_resamples_both_sides() -> None:
    # x in {0, 2} against y = 1, 1: the share of 2s drawn, again 0, 1/2, 1 at 1/4, 1/2, 1/4.
    drawn = stats.bootstrap_improvement([np.array([0.0, 2])], [np.ones(2)], rng(), samples=40_000)
    values, counts = np.unique(drawn, return_counts=True)
    assert values.tolist() == [0.0, 0.5, 1.0]
    np.testing.assert_allclose(counts / 40_000, [0.25, 0.5, 0.25], atol=0.01)


def test_intervals_surround_the_value_and_shrink_with_seeds() -> None:
    widths = []
    for seeds in (5, 20, 80):
        estimate = stats.iqm_interval([rng(seeds).normal(size=seeds)], rng())
        assert estimate.low <= estimate.value <= estimate.high
        widths.append(estimate.high - estimate.low)
    assert widths[0] > widths[1] > widths[2]


def test_ninety_five_percent_intervals_cover_about_that_often() -> None:
    truth, hits = 0.0, 0
    data = rng(3).normal(size=(200, 30))
    for row in data:
        estimate = stats.iqm_interval([row], rng())
        hits += estimate.low <= truth <= estimate.high
    # A percentile interval of 30 seeds covers a little less than its level; 200 trials: se 0.02.
    assert 0.86 <= hits / 200 <= 0.99


def test_one_seed_has_a_value_and_no_interval() -> None:
    alone, five = np.array([3.0]), np.arange(5.0)
    for estimate in (
        stats.iqm_interval([alone], rng()),
        stats.improvement_interval([alone], [five], rng()),
        stats.improvement_interval([five], [alone], rng()),
        stats.iqm_interval([five, alone], rng()),
    ):
        assert np.isfinite(estimate.value)
        assert np.isnan([estimate.low, estimate.high]).all()


def test_mean_curve_of_equal_runs_has_no_width() -> None:
    curve = stats.mean_curve([np.tile([1.0, 2, 3], (4, 1))], rng())
    for line in (curve.mean, curve.low, curve.high):
        np.testing.assert_allclose(line, [1, 2, 3])


def test_mean_curve_interval_is_the_bootstrap_of_the_mean() -> None:
    values = rng(4).normal(size=(10, 2))
    curve = stats.mean_curve([values], rng())
    drawn = values[rng(5).integers(10, size=(20_000, 10))].mean(axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    np.testing.assert_allclose(curve.low, low, atol=0.05 * np.max(high - low))
    np.testing.assert_allclose(curve.high, high, atol=0.05 * np.max(high - low))
    np.testing.assert_allclose(curve.mean, values.mean(axis=0))


def test_mean_curve_averages_tasks_equally_whatever_their_seeds() -> None:
    curve = stats.mean_curve([np.zeros((9, 1)), np.full((2, 1), 10.0)], rng())
    assert curve.mean.tolist() == [5.0]


def test_mean_curve_leaves_gaps_where_data_are_missing() -> None:
    nan = np.nan
    first = np.array([[1.0, 1, 1, nan], [3, nan, 3, nan]])
    second = np.array([[1.0, 1, nan, nan], [3, 3, nan, nan]])
    curve = stats.mean_curve([first, second], rng())
    np.testing.assert_array_equal(curve.mean, [2, 1.5, nan, nan])
    # At the second point the first task has one run: a mean, but no interval.
    np.testing.assert_array_equal(np.isnan(curve.low), [False, True, True, True])
