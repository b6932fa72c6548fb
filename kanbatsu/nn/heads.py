"""From features to what an agent needs: an action distribution, an action, a value."""

from __future__ import annotations

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kanbatsu.nn.constants import LOG_STD_RANGE
from kanbatsu.nn.layers import Linear
from kanbatsu.types import Key

INSIDE = 1e-6
"""Distance that clipped actions keep from -1 and 1 (DrQ-v2's public code)."""

_ORTHOGONAL = jax.nn.initializers.orthogonal(1.0)


class GaussianHead(eqx.Module):
    """Mean and log standard deviation of a diagonal Gaussian, to be squashed by tanh."""

    mean: Linear
    log_std: Linear

    def __init__(self, inputs: int, action_dim: int, *, key: Key):
        mean_key, log_std_key = jax.random.split(key)
        self.mean = Linear(inputs, action_dim, _ORTHOGONAL, key=mean_key)
        self.log_std = Linear(inputs, action_dim, _ORTHOGONAL, key=log_std_key)

    def __call__(
        self, features: Float[Array, "*batch width"]
    ) -> tuple[Float[Array, "*batch action_dim"], Float[Array, "*batch action_dim"]]:
        """Return the mean and the log standard deviation, before squashing."""
        low, high = LOG_STD_RANGE
        squashed = jnp.tanh(self.log_std(features))
        return self.mean(features), low + 0.5 * (high - low) * (1.0 + squashed)


class TanhHead(eqx.Module):
    """A deterministic action in [-1, 1]."""

    mean: Linear

    def __init__(self, inputs: int, action_dim: int, *, key: Key):
        self.mean = Linear(inputs, action_dim, _ORTHOGONAL, key=key)

    def __call__(self, features: Float[Array, "*batch width"]) -> Float[Array, "*batch action_dim"]:
        """Return the action."""
        return jnp.tanh(self.mean(features))


class ValueHead(eqx.Module):
    """One number: the value of what the features describe."""

    value: Linear

    def __init__(self, inputs: int, *, key: Key):
        self.value = Linear(inputs, 1, _ORTHOGONAL, key=key)

    def __call__(self, features: Float[Array, "*batch width"]) -> Float[Array, "*batch"]:
        """Return the value, without a trailing axis."""
        return self.value(features)[..., 0]


def sample_tanh_normal(
    mean: Float[Array, "*batch action_dim"],
    log_std: Float[Array, "*batch action_dim"],
    noise: Float[Array, "*batch action_dim"],
) -> tuple[Float[Array, "*batch action_dim"], Float[Array, "*batch"]]:
    r"""Squash a Gaussian sample by tanh, with its log density.

    With $u = \mu + \sigma\epsilon$ and $a = \tanh u$,

    $$ \log \pi(a) = \sum_i \left[ -\tfrac12 \epsilon_i^2 - \log\sigma_i - \tfrac12\log 2\pi
       - 2 (\log 2 - u_i - \mathrm{softplus}(-2 u_i)) \right]. $$

    Args:
        mean: mean of the Gaussian, before squashing.
        log_std: logarithm of its standard deviation.
        noise: standard normal.

    Returns:
        The action in [-1, 1] and its log density.

    Example:
        >>> action, log_prob = sample_tanh_normal(jnp.zeros(1), jnp.zeros(1), jnp.zeros(1))
        >>> round(float(log_prob), 4)  # -log(2 pi) / 2: tanh has slope 1 at 0
        -0.9189

    Reference:
        Haarnoja et al. 2018, "Soft Actor-Critic", appendix C.
    """
    pre_tanh = mean + jnp.exp(log_std) * noise
    gaussian = -0.5 * noise**2 - log_std - 0.5 * math.log(2.0 * math.pi)
    log_slope = 2.0 * (math.log(2.0) - pre_tanh - jax.nn.softplus(-2.0 * pre_tanh))
    return jnp.tanh(pre_tanh), (gaussian - log_slope).sum(axis=-1)


def explore(mean: Array, noise: Array) -> Float[Array, "*batch action_dim"]:
    """Add noise to actions and clip them inside [-1, 1]; gradients pass as if nothing was cut.

    Example:
        >>> noisy = explore(jnp.array([0.5, 0.9]), jnp.array([0.25, 0.25]))
        >>> [round(float(action), 3) for action in noisy]
        [0.75, 1.0]
    """
    action = mean + noise
    inside = jnp.clip(action, -1.0 + INSIDE, 1.0 - INSIDE)
    return action + jax.lax.stop_gradient(inside - action)


def log_prob_and_entropy(
    mean: Float[Array, "*batch action_dim"], deviation: Array, action: Array
) -> tuple[Float[Array, "*batch"], Float[Array, "*batch"]]:
    """Log density of an action under a diagonal Gaussian, and the Gaussian's entropy.

    Example:
        >>> one = jnp.ones(1)
        >>> log_prob, entropy = log_prob_and_entropy(one, one, one)
        >>> round(float(log_prob), 4), round(float(entropy), 4)
        (-0.9189, 1.4189)
    """
    log_scale = jnp.log(deviation) + 0.5 * math.log(2.0 * math.pi)
    squares = ((action - mean) / deviation) ** 2
    return (-0.5 * squares - log_scale).sum(axis=-1), (0.5 + log_scale).sum(axis=-1)
