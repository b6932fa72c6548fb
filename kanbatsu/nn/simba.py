"""SimBa: a residual network with LayerNorm that stays simple as it grows."""

from __future__ import annotations

import equinox as eqx
import jax
from jaxtyping import Array, Float

from kanbatsu.nn.layers import LayerNorm, Linear
from kanbatsu.types import Key


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

        A compiled caller that ignores the activations does not pay for them.
        """
        activations = {}
        x = self.embed(x)
        for index, block in enumerate(self.blocks):
            hidden = block.up(block.norm(x, block.up.weight), relu=True)
            activations[f"block{index}"] = hidden
            x = x + block.down(hidden)
        return self.norm(x, self.blocks[-1].down.weight), activations
