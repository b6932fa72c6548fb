"""Mean and variance of a stream, one sample at a time, as exact as if summed in float64."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

STREAM_EPSILON = 1e-8
"""Number added to the variance of a stream under a root (Elsayed et al. 2024, published code)."""


class Welford(eqx.Module):
    r"""Sample mean and variance, updated in place of being computed from stored samples.

    $$ \mu_n = \mu_{n-1} + \frac{x - \mu_{n-1}}{n}, \qquad
       p_n = p_{n-1} + (x - \mu_{n-1})(x - \mu_n), \qquad \sigma^2 = \frac{p_n}{n - 1} $$

    After a million samples one more moves these sums by less than float32 can hold. JAX has float64
    for a whole program or not at all, so each sum carries, in a second float32, what the first one
    rounded away (Knuth's two-sum).

    Example:
        >>> seen = Welford.empty((1,)).record(jnp.array([1.0])).record(jnp.array([3.0]))
        >>> seen.mean, seen.variance
        (Array([2.], dtype=float32), Array([2.], dtype=float32))

    Reference:
        Welford 1962, "Note on a Method for Calculating Corrected Sums of Squares and Products".
    """

    mean: Float[Array, "*shape"]
    mean_rest: Float[Array, "*shape"]
    squares: Float[Array, "*shape"]
    squares_rest: Float[Array, "*shape"]
    count: Int[Array, ""]

    @classmethod
    def empty(cls, shape: tuple[int, ...]) -> Welford:
        """Start with nothing seen."""
        zeros = jnp.zeros(shape)
        return cls(zeros, zeros, zeros, zeros, jnp.int32(0))

    def record(self, x: Float[Array, "*shape"]) -> Welford:
        """Take in one sample."""
        count = self.count + 1
        before = (x - self.mean) - self.mean_rest
        mean, mean_rest = _add(self.mean, self.mean_rest, before / count.astype(jnp.float32))
        after = (x - mean) - mean_rest
        squares, squares_rest = _add(self.squares, self.squares_rest, before * after)
        return Welford(mean, mean_rest, squares, squares_rest, count)

    @property
    def variance(self) -> Float[Array, "*shape"]:
        """Variance of the samples, with n - 1 in the denominator; 1 until there are two."""
        others = jnp.maximum(self.count - 1, 1).astype(jnp.float32)
        return jnp.where(self.count < 2, 1.0, self.squares / others)

    def standardise(self, x: Float[Array, "*batch_and_shape"]) -> Float[Array, "*batch_and_shape"]:
        """Centre and scale by what has been seen so far."""
        return (x - self.mean) / jnp.sqrt(self.variance + STREAM_EPSILON)


def _add(total: jax.Array, rest: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Add to a sum in two parts; the first is the float32 nearest to both together."""
    x = x + rest
    new = total + x
    part = new - total
    return new, (total - (new - part)) + (x - part)
