"""SimBa as a PyTorch module: the function of `kanbatsu.nn.simba.SimBa`, and its weights there."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from kanbatsu.extras import needed_by
from kanbatsu.nn.constants import LAYER_NORM_EPSILON
from kanbatsu.torch.pruning import apply_masks

_TRUNCATED = 0.87962566103423978
"""Standard deviation of a standard normal that is cut off at 2, as JAX's He normal is."""


class Block(nn.Module):
    """`x + down(relu(up(norm(x))))`, four times wider inside.

    Args:
        width: features of the residual stream.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=LAYER_NORM_EPSILON)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)
        for layer in (self.up, self.down):
            deviation = math.sqrt(2.0 / layer.in_features) / _TRUNCATED
            nn.init.trunc_normal_(layer.weight, 0.0, deviation, -2.0 * deviation, 2.0 * deviation)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[..., width]` to `[..., width]`."""
        return x + self.down(functional.relu(self.up(self.norm(x))))


class SimBa(nn.Module):
    """Linear, then residual blocks, then LayerNorm: the network that the paper scales.

    It returns features `[..., width]`, which a linear head of one's own reads. Observations are to
    be normalised by running statistics before they come here.

    Args:
        inputs: length of an input.
        width: features of the residual stream; 128 in the paper's actor, 512 in its critic.
        blocks: residual blocks; 1 in the paper's actor, 2 in its critic.

    Example:
        >>> import torch
        >>> from kanbatsu.torch import prune
        >>> critic = nn.Sequential(SimBa(67 + 21, width=64), nn.Linear(64, 1))
        >>> prune(critic, 0.9)(torch.ones(5, 88)).shape
        torch.Size([5, 1])

    Reference:
        Lee et al. 2025, "SimBa: Simplicity Bias for Scaling Up Parameters in Deep RL", section 4.
    """

    def __init__(self, inputs: int, width: int = 512, blocks: int = 2) -> None:
        super().__init__()
        self.embed = nn.Linear(inputs, width)
        nn.init.orthogonal_(self.embed.weight)
        nn.init.zeros_(self.embed.bias)
        self.blocks = nn.Sequential(*(Block(width) for _ in range(blocks)))
        self.norm = nn.LayerNorm(width, eps=LAYER_NORM_EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[..., inputs]` to features `[..., width]`."""
        return self.norm(self.blocks(self.embed(x)))

    @classmethod
    def from_jax(cls, encoder: Any) -> SimBa:
        """Build the module that computes what kanbatsu's own SimBa does, pruned as it is.

        Args:
            encoder: a `kanbatsu.nn.simba.SimBa`, of an agent `state.actor.encoder` say; dense or
                pruned in any way.

        Returns:
            A module on the CPU, equal to the encoder to 1e-5.

        Example:
            >>> import jax, torch
            >>> from kanbatsu.nn import simba
            >>> ours = simba.SimBa(3, width=8, blocks=1, key=jax.random.key(0))
            >>> SimBa.from_jax(ours)(torch.ones(5, 3)).shape
            torch.Size([5, 8])
        """
        with needed_by("SimBa.from_jax"):
            from kanbatsu.torch.simba_in_jax import copied

        inputs, width = encoder.embed.weight.shape
        module = cls(inputs, width, len(encoder.blocks))
        masks = copied(module, encoder)
        return apply_masks(module, masks) if masks else module

    def to_jax(self) -> Any:
        """Return kanbatsu's own SimBa with this module's weights, pruned as it is.

        Pruned weights are `Masked` there.

        Example:
            >>> import jax.numpy as jnp
            >>> SimBa(3, width=8, blocks=1).to_jax()(jnp.ones((5, 3)))[0].shape
            (5, 8)
        """
        with needed_by("SimBa.to_jax"):
            from kanbatsu.torch.simba_in_jax import in_jax

        return in_jax(self, self.embed.in_features, self.embed.out_features, len(self.blocks))
