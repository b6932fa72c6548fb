"""The interval of an effect, against numbers worked out elsewhere and against its own promise."""

import numpy as np
import pytest
from scipy import stats as scipy_stats

from kanbatsu.report.effect import MEASURES, centre, effect, improvement

X = np.array([12.0, 15.0, 9.0, 20.0, 14.0, 11.0])
Y = np.array([8.0, 10.0, 9.5, 7.0, 12.0])


@pytest.mark.parametrize(("measure", "trim"), [("mean_difference", 0.0), ("iqm_difference", 0.2)])
def test_an_interval_is_welchs_or_yuens(measure, trim):
    # scipy trims int(n * trim) at each end: with 0.2, one of five or six, as a quarter does here.
    known = scipy_stats.ttest_ind(X, Y, equal_var=False, trim=trim).confidence_interval(0.95)
    found = effect([X], [Y], measure, 0.95)
    assert (found.low, found.high) == pytest.approx((known.low, known.high))


def test_the_centre_of_four_runs_is_that_of_the_middle_two():
    found = centre(np.array([[0.0, 4.0, 6.0, 90.0], [1.0, 1.0, 1.0, 1.0]]), "iqm_difference")
    assert found.value.tolist() == [5.0, 1.0]
    # Winsorised: 4, 4, 6, 6; squares sum to 4; over h (h - 1) = 2.
    assert found.variance.tolist() == [2.0, 0.0]
    assert found.freedom == 1


def test_tasks_count_alike_and_a_relative_effect_has_no_unit():
    both = effect([X, 100 * X], [Y, 100 * Y], "mean_relative", 0.95)
    one = effect([X], [Y], "mean_relative", 0.95)
    assert both.value == pytest.approx(one.value) == pytest.approx(X.mean() / Y.mean() - 1)
    assert both.high - both.low < one.high - one.low  # twice the runs
    lower = effect([-X], [-Y], "mean_relative", 0.95)  # of negative returns, more is still better
    assert lower.value == pytest.approx(-one.value)


def test_what_cannot_be_known_is_nan():
    alone = effect([X[:1]], [Y], "mean_difference", 0.95)
    assert alone.value == X[0] - Y.mean()
    assert np.isnan([alone.low, alone.high]).all()
    assert np.isnan(effect([X], [0 * Y], "mean_relative", 0.95).value)
    assert np.isnan(improvement([X[:1]], [Y], 0.95).low)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(
    ("x", "y"),
    [
        (np.full(5, 7.0), np.full(5, 6.0)),
        (np.full(5, 0.1 + 0.2), np.full(5, 0.3)),
        (60.0 + 1e-13 * np.arange(5), 59.0 - 1e-13 * np.arange(5)),
        (np.float32(0.1) * np.arange(595, 605) / np.arange(595, 605), np.full(5, 0.1)),
    ],
)
def test_runs_that_differ_by_rounding_alone_say_nothing_about_chance(measure, x, y):
    found = effect([x], [y], measure, 0.95)
    assert np.isfinite(found.value)
    assert np.isnan([found.low, found.high]).all()
    one_differs = effect([np.append(x[:-1], 2 * x[-1])], [y], "mean_difference", 0.95)
    assert np.isfinite(one_differs.low)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("seeds", [5, 10])
def test_an_effect_that_is_not_there_is_rarely_found(measure, seeds):
    rng = np.random.default_rng(seeds)
    # Skewed, and one run in five fails altogether.
    draw = lambda: 9.0 + rng.lognormal(size=(4_000, seeds)) - 8 * (rng.random((4_000, seeds)) < 0.2)  # noqa: E731
    found = effect([draw()], [draw()], measure, 0.95)
    assert (found.low > 0).mean() < 0.05
    assert (found.high < 0).mean() < 0.05


def test_the_interval_of_an_improvement_holds_what_it_should():
    """Newcombe 2006 gives method 5 for 10 of 10 wins as 0.8 or so: never a point."""
    rng = np.random.default_rng(1)
    truth = scipy_stats.norm.cdf(1.0 / np.sqrt(2))
    held = 0
    for _ in range(400):
        found = improvement([rng.normal(1.0, 1.0, 6)], [rng.normal(0.0, 1.0, 6)], 0.95)
        held += found.low <= truth <= found.high
    assert held >= 0.92 * 400
    many = improvement([X + 100, X + 100], [Y, Y], 0.95)
    one = improvement([X + 100], [Y], 0.95)
    assert one.value == many.value == many.high == 1.0
    assert 0.5 < one.low < many.low < 1.0
