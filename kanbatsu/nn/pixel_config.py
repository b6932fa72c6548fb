"""Configurations of networks that see images: shapes, and how much of each part is removed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from kanbatsu.ranges import Natural
from kanbatsu.sparsity.config import Pruning


@dataclass(frozen=True)
class EncoderShape:
    """An encoder's kind and size."""

    network: Literal["full", "small", "gap"] = "full"
    """Encoder as published (full); with strides of 2 in three convolutions, for processors (small);
    or as published, with the mean over height and width in place of all pixels (gap)."""
    channels: Natural = 32
    """Channels of each convolution."""


@dataclass(frozen=True)
class EncoderConfig(Pruning, EncoderShape):
    """An encoder's shape and its sparsity."""


@dataclass(frozen=True)
class HeadedShape:
    """Size of a network behind the encoder."""

    features: Natural = 50
    """Outputs of the trunk, the layer that all pixels pass first."""
    width: Natural = 1024
    """Units of each hidden layer of a head."""
    blocks: Natural = 2
    """Hidden layers of a head."""
    trunk_sparsity: float | None = None
    """Share of the trunk's weights that is removed; `sparsity` is then that of the heads alone. By
    default trunk and heads share out one sparsity."""


@dataclass(frozen=True)
class PixelActorConfig(Pruning, HeadedShape):
    """The policy's shape and its sparsity."""

    @property
    def shares(self) -> Mapping[str, float] | None:
        """Sparsities of trunk and heads, where each has its own."""
        return _shares(self.trunk_sparsity, self.sparsity)


@dataclass(frozen=True)
class PixelCriticConfig(Pruning, HeadedShape):
    """The critic's shape, its sparsity, and how many heads of it vote."""

    members: Natural = 2
    """Heads on one trunk; their minimum is the target."""

    @property
    def shares(self) -> Mapping[str, float] | None:
        """Sparsities of trunk and heads, where each has its own."""
        return _shares(self.trunk_sparsity, self.sparsity)


def _shares(trunk: float | None, heads: float) -> Mapping[str, float] | None:
    return None if trunk is None else {"trunk/*": trunk, "heads/*": heads}
