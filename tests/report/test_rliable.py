"""Our estimators against rliable's, where it is installed (`make rliable`).

Point estimates must be exact. Two bootstraps with other draws can agree only up to Monte-Carlo
error, which is taken from the draws themselves: tolerances are five standard errors.
"""

import numpy as np
import pytest

from kanbatsu.report import stats

metrics = pytest.importorskip("rliable.metrics", exc_type=ImportError)
library = pytest.importorskip("rliable.library", exc_type=ImportError)

SAMPLES = 4_000
SHAPES = [(5, 1), (10, 1), (3, 7), (8, 4), (21, 3)]


def scores(seeds: int, tasks: int, seed: int) -> np.ndarray:
    """Skewed scores with ties, as returns are: `[seeds, tasks]`."""
    rng = np.random.default_rng([seeds, tasks, seed])
    return np.round(rng.gamma(2.0, 100.0, (seeds, tasks)) + 50 * seed)


def by_task(matrix: np.ndarray) -> list[np.ndarray]:
    return list(matrix.T)


def theirs(bootstrap: object, function: object) -> np.ndarray:
    np.random.seed(0)  # noqa: NPY002 - rliable draws from the global generator
    return bootstrap.apply(function, SAMPLES).ravel()


def assert_same_distribution(ours: np.ndarray, other: np.ndarray) -> None:
    """Means, spreads and the shares beyond common points, within five standard errors each."""
    n = len(ours)
    spread = np.hypot(ours.std(), other.std())
    assert abs(ours.mean() - other.mean()) < 5 * spread / np.sqrt(n)
    # The standard error of a standard deviation, from the fourth moment.
    fourth = ((ours - ours.mean()) ** 4).mean()
    error = np.sqrt(max(fourth - ours.var() ** 2, 0) / n) / (2 * ours.std())
    assert abs(ours.std() - other.std()) < 5 * np.sqrt(2) * error
    # Shares rather than percentiles: with ties a percentile jumps, a share does not.
    for percent in (2.5, 25, 50, 75, 97.5):
        point = np.percentile(np.concatenate([ours, other]), percent)
        for compare in (np.less, np.less_equal):
            p, q = compare(ours, point - 1e-9).mean(), compare(other, point - 1e-9).mean()
            share = (p + q) / 2
            assert abs(p - q) <= 5 * np.sqrt(2 * share * (1 - share) / n)


@pytest.mark.parametrize("shape", SHAPES)
def test_iqm_is_exactly_theirs(shape: tuple[int, int]) -> None:
    for seed in range(20):
        x = scores(*shape, seed)
        assert stats.iqm(x) == pytest.approx(metrics.aggregate_iqm(x), rel=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_improvement_is_exactly_theirs(shape: tuple[int, int]) -> None:
    for seed in range(20):
        x, y = scores(*shape, seed), scores(shape[0] + 2, shape[1], 0)
        ours = stats.improvement(by_task(x), by_task(y))
        assert ours == pytest.approx(metrics.probability_of_improvement(x, y), rel=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_bootstrap_of_the_iqm_has_their_distribution(shape: tuple[int, int]) -> None:
    x = scores(*shape, 0)
    other = theirs(
        library.StratifiedBootstrap(x), lambda data: np.array([metrics.aggregate_iqm(data)])
    )
    ours = stats.bootstrap_iqm(by_task(x), np.random.default_rng(1), SAMPLES)
    assert_same_distribution(ours, other)


@pytest.mark.parametrize("shape", SHAPES[:4])
def test_bootstrap_of_the_improvement_has_their_distribution(shape: tuple[int, int]) -> None:
    x, y = scores(*shape, 1), scores(shape[0] + 2, shape[1], 0)
    other = theirs(
        library.StratifiedIndependentBootstrap(x, y),
        lambda a, b: np.array([metrics.probability_of_improvement(a, b)]),
    )
    ours = stats.bootstrap_improvement(by_task(x), by_task(y), np.random.default_rng(1), SAMPLES)
    assert_same_distribution(ours, other)


def test_intervals_are_theirs_up_to_chance() -> None:
    x = scores(10, 3, 0)
    np.random.seed(0)  # noqa: NPY002 - rliable draws from the global generator
    values, intervals = library.get_interval_estimates(
        {"x": x}, lambda data: np.array([metrics.aggregate_iqm(data)]), reps=SAMPLES
    )
    ours = stats.iqm_interval(by_task(x), np.random.default_rng(1))
    assert ours.value == pytest.approx(values["x"][0], rel=1e-12)
    # The error of a percentile: sqrt(p (1 - p) / n) over the density there, normal density taken.
    drawn = stats.bootstrap_iqm(by_task(x), np.random.default_rng(2), SAMPLES)
    error = np.sqrt(0.025 * 0.975 / SAMPLES) * drawn.std() / 0.058
    np.testing.assert_allclose([ours.low, ours.high], intervals["x"].ravel(), atol=5 * error)
