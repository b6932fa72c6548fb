"""Statistics of a stream against float64, where plain float32 sums go wrong."""

import jax
import jax.numpy as jnp
import numpy as np

from kanbatsu.nn.welford import Welford


def record_all(samples):
    step = lambda seen, x: (seen.record(x), None)  # noqa: E731
    return jax.jit(lambda x: jax.lax.scan(step, Welford.empty(x.shape[1:]), x)[0])(samples)


def test_before_there_are_two_samples_the_variance_is_one():
    empty = Welford.empty((2,))
    assert empty.variance.tolist() == [1.0, 1.0]
    one = empty.record(jnp.array([4.0, -1.0]))
    assert one.mean.tolist() == [4.0, -1.0]
    assert one.variance.tolist() == [1.0, 1.0]
    # Samples 4 and 8: mean 6, squares 4 + 4 over n - 1.
    two = one.record(jnp.array([8.0, -1.0]))
    assert two.mean.tolist() == [6.0, -1.0]
    assert two.variance.tolist() == [8.0, 0.0]
    np.testing.assert_allclose(two.standardise(jnp.array([8.0, -1.0])), [2 / 8**0.5, 0.0])


def test_half_a_million_samples_agree_with_float64():
    rng = np.random.default_rng(0)
    n = 500_000
    # The mean drifts late, by less per sample than float32 can add to it; the offset is 1,000
    # deviations; the third is almost constant.
    drift = np.where(np.arange(n) < n // 2, 0.0, 1.0)
    samples = np.stack(
        [drift + rng.normal(size=n), 1_000 + rng.normal(size=n), 1e-3 * rng.normal(size=n)], axis=1
    ).astype(np.float32)
    seen = record_all(samples)
    exact = samples.astype(np.float64)
    np.testing.assert_allclose(seen.mean, exact.mean(axis=0), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(seen.variance, exact.var(axis=0, ddof=1), rtol=1e-5)


def test_plain_float32_would_not_agree():
    """What the second halves of the sums are for: 2^24 + 1 is no float32."""
    seen = Welford(
        mean=jnp.zeros(1),
        mean_rest=jnp.zeros(1),
        squares=jnp.full(1, 2.0**24),
        squares_rest=jnp.zeros(1),
        count=jnp.int32(10**7),
    )
    after = record_many(seen, n=1_000)
    assert after.squares[0] >= 2.0**24 + 990


def record_many(seen, n):
    # Alternating, so that the mean stays; each adds almost 1 to the squares.
    samples = jnp.where(jnp.arange(n)[:, None] % 2 == 0, 1.0, -1.0)
    return jax.jit(lambda seen, x: jax.lax.scan(lambda s, x: (s.record(x), None), seen, x)[0])(
        seen, samples
    )
