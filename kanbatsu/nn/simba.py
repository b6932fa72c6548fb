"""SimBa: a residual network with LayerNorm that stays simple as it grows."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Float

from kanbatsu.kernels import trunk_parts as parts
from kanbatsu.kernels.trunk import trunk
from kanbatsu.nn.constants import LAYER_NORM_EPSILON
from kanbatsu.nn.layers import LayerNorm, Linear
from kanbatsu.sparsity.packed import Grouped, Packed
from kanbatsu.types import Key

FEWEST_FUSED = 16
"""Samples in a batch whose packed blocks run in one call; of fewer, most of a tile is padding."""


class Block(eqx.Module):
    """`x + down(relu(up(norm(x))))`, four times wider inside."""

    norm: LayerNorm
    up: Linear
    down: Linear

    def __init__(self, width: int, *, key: Key):
        up_key, down_key = jax.random.split(key)
        he = jax.nn.initializers.he_normal()
        self.norm = LayerNorm(width)
        self.up = Linear(width, 4 * width, he, key=up_key)
        self.down = Linear(4 * width, width, he, key=down_key)


class SimBa(eqx.Module):
    """Linear, then residual blocks, then LayerNorm.

    Example:
        >>> import jax.numpy as jnp
        >>> encoder = SimBa(67, width=8, blocks=1, key=jax.random.key(0))
        >>> features, activations = encoder(jnp.ones((5, 67)))
        >>> features.shape, {name: x.shape for name, x in activations.items()}
        ((5, 8), {'block0': (5, 32)})

    Reference:
        Lee et al. 2025, "SimBa: Simplicity Bias for Scaling Up Parameters in Deep RL", section 4.
    """

    embed: Linear
    blocks: tuple[Block, ...]
    norm: LayerNorm

    def __init__(self, inputs: int, width: int, blocks: int, *, key: Key):
        embed_key, *block_keys = jax.random.split(key, blocks + 1)
        self.embed = Linear(inputs, width, jax.nn.initializers.orthogonal(1.0), key=embed_key)
        self.blocks = tuple(Block(width, key=block_key) for block_key in block_keys)
        self.norm = LayerNorm(width)

    def __call__(
        self, x: Float[Array, "*batch inputs"]
    ) -> tuple[Float[Array, "*batch width"], dict[str, Float[Array, "*batch hidden"]]]:
        """Return the features, and the outputs of every ReLU by layer, for the probes.

        No gradient flows through those. A compiled caller that ignores them does not pay for them.
        """
        x = self.embed(x)
        layers = [layer.weight for block in self.blocks for layer in (block.up, block.down)]
        packed = all(isinstance(weight, Packed | Grouped) for weight in layers)
        run = _fused if packed and x.size >= FEWEST_FUSED * x.shape[-1] else _plain
        features, hidden = run(self, x)
        return features, {f"block{index}": units for index, units in enumerate(hidden)}


def _plain(network: SimBa, x: Array) -> tuple[Array, list[Array]]:
    """Run the blocks and the last norm layer by layer."""
    hidden = []
    for block in network.blocks:
        units = block.up(block.norm(x), relu=True)
        hidden.append(jax.lax.stop_gradient(units))
        x = x + block.down(units)
    return network.norm(x), hidden


def _fused(network: SimBa, x: Array) -> tuple[Array, tuple[Array, ...]]:
    """Run the blocks and the last norm in one call: all of their weights are packed."""

    def norm(of: LayerNorm) -> parts.Norm:
        return parts.Norm(of.scale, of.shift)

    def affine(bias: Array, weight: Any) -> parts.Affine:
        return parts.Affine(weight.values, bias, weight.structure)

    blocks = tuple(
        parts.Block(
            norm(block.norm),
            affine(block.up.bias, block.up.weight),
            affine(block.down.bias, block.down.weight),
        )
        for block in network.blocks
    )
    up: Any = network.blocks[0].up.weight
    down: Any = network.blocks[0].down.weight
    sizes = parts.TrunkSizes(up.sizes, down.sizes, LAYER_NORM_EPSILON)
    return trunk(x, blocks, norm(network.norm), sizes)
