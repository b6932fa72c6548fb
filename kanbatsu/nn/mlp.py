"""A plain multi-layer perceptron, the network that most published agents start from."""

from __future__ import annotations

import math

import equinox as eqx
import jax
from jaxtyping import Array, Float

from kanbatsu.nn.layers import LayerNorm, Linear
from kanbatsu.types import Key


class MLP(eqx.Module):
    """Linear and ReLU, `blocks` times; orthogonal kernels of gain sqrt(2), for the ReLU.

    With `norm`, a LayerNorm stands between the two; with `residual`, each layer after the first
    adds its outputs to its inputs. `scale` multiplies the kernels.

    Example:
        >>> import jax.numpy as jnp
        >>> encoder = MLP(3, width=8, blocks=2, key=jax.random.key(0))
        >>> features, activations = encoder(jnp.ones((5, 3)))
        >>> features.shape, list(activations)
        ((5, 8), ['hidden0', 'hidden1'])
    """

    layers: tuple[Linear, ...]
    norms: tuple[LayerNorm, ...]
    residual: bool = eqx.field(static=True)

    def __init__(
        self,
        inputs: int,
        width: int,
        blocks: int,
        *,
        norm: bool = False,
        residual: bool = False,
        scale: float = 1.0,
        key: Key,
    ):
        initializer = jax.nn.initializers.orthogonal(scale * math.sqrt(2.0))
        self.layers = tuple(
            Linear(inputs if index == 0 else width, width, initializer, key=layer_key)
            for index, layer_key in enumerate(jax.random.split(key, blocks))
        )
        self.norms = tuple(LayerNorm(width) for _ in range(blocks if norm else 0))
        self.residual = residual

    def __call__(
        self, x: Float[Array, "*batch inputs"]
    ) -> tuple[Float[Array, "*batch width"], dict[str, Float[Array, "*batch width"]]]:
        """Return the features, and the outputs of every ReLU by layer, for the probes."""
        activations = {}
        for index, layer in enumerate(self.layers):
            units = jax.nn.relu(self.norms[index](layer(x))) if self.norms else layer(x, relu=True)
            activations[f"hidden{index}"] = units
            x = x + units if self.residual and index else units
        return x, activations
