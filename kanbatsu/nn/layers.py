"""The two layers that every network here is made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from kanbatsu.nn.constants import LAYER_NORM_EPSILON
from kanbatsu.sparsity.weight import Pruned, affine
from kanbatsu.types import Key

Initializer = Callable[..., Float[Array, "inputs outputs"]]


class Linear(eqx.Module):
    """An affine map `x W + b` on the last axis; the kernel may be pruned.

    Example:
        >>> import jax
        >>> layer = Linear(3, 2, jax.nn.initializers.he_normal(), key=jax.random.key(0))
        >>> layer(jnp.ones((5, 3))).shape
        (5, 2)
    """

    kernel: ClassVar[str] = "weight"
    """The field that pruning may thin out, stored as [inputs, outputs]."""

    weight: Float[Array, "inputs outputs"] | Pruned
    bias: Float[Array, " outputs"]

    def __init__(self, inputs: int, outputs: int, initializer: Initializer, *, key: Key):
        self.weight = initializer(key, (inputs, outputs), jnp.float32)
        self.bias = jnp.zeros(outputs)

    def __call__(
        self, x: Float[Array, "*batch inputs"], *, relu: bool = False
    ) -> Float[Array, "*batch outputs"]:
        """Map `[..., inputs]` to `[..., outputs]`; with `relu`, to their positive part."""
        return affine(x, self.weight, self.bias, relu=relu)


class LayerNorm(eqx.Module):
    """Normalise the last axis to mean 0 and variance 1, then scale and shift.

    Differs from `equinox.nn.LayerNorm` in taking leading batch axes, and in its epsilon.

    Reference:
        Ba, Kiros and Hinton 2016, "Layer Normalization".
    """

    scale: Float[Array, " features"]
    shift: Float[Array, " features"]

    def __init__(self, features: int):
        self.scale = jnp.ones(features)
        self.shift = jnp.zeros(features)

    def __call__(self, x: Float[Array, "*batch features"]) -> Float[Array, "*batch features"]:
        """Normalise `[..., features]`."""
        centred = x - x.mean(axis=-1, keepdims=True)
        variance = (centred**2).mean(axis=-1, keepdims=True)
        return centred / jnp.sqrt(variance + LAYER_NORM_EPSILON) * self.scale + self.shift
