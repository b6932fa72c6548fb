"""Running mean and variance of observations, as part of an agent's state."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from kanbatsu.nn.constants import OBSERVATION_EPSILON


class Normaliser(eqx.Module):
    """Centre and scale observations by what has been seen so far.

    It starts as the identity: mean 0, variance 1, with the weight of 1e-4 observations.

    Example:
        >>> seen = Normaliser.identity(1).observe(jnp.array([[1.0], [3.0]]))
        >>> seen.normalise(jnp.array([[2.0]])).round(2)
        Array([[0.]], dtype=float32)
    """

    mean: Float[Array, " obs_dim"]
    variance: Float[Array, " obs_dim"]
    count: Float[Array, ""]

    @classmethod
    def identity(cls, obs_dim: int) -> Normaliser:
        """Start with nothing seen."""
        return cls(jnp.zeros(obs_dim), jnp.ones(obs_dim), jnp.float32(1e-4))

    def observe(self, obs: Float[Array, "n obs_dim"]) -> Normaliser:
        """Merge a batch of observations into the statistics.

        Reference:
            Chan, Golub and LeVeque 1983, the parallel update of mean and variance.
        """
        n = jnp.float32(obs.shape[0])
        count = self.count + n
        delta = obs.mean(axis=0) - self.mean
        squares = self.variance * self.count + obs.var(axis=0) * n
        return Normaliser(
            self.mean + delta * (n / count),
            (squares + delta**2 * (self.count * n / count)) / count,
            count,
        )

    def normalise(self, obs: Float[Array, "*batch obs_dim"]) -> Float[Array, "*batch obs_dim"]:
        """Return observations with mean 0 and variance 1, as far as is known."""
        return (obs - self.mean) / jnp.sqrt(self.variance + OBSERVATION_EPSILON)
