"""The configuration of one network: its shape and how much of it is removed before training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kanbatsu.ranges import Natural
from kanbatsu.sparsity.config import Pruning


@dataclass(frozen=True)
class NetworkShape:
    """A network's kind and size."""

    network: Literal["simba", "mlp"] = "simba"
    """SimBa (residual blocks with LayerNorm) or a plain ReLU multi-layer perceptron."""
    width: Natural = 512
    """Features of the residual stream (SimBa) or of each hidden layer (MLP)."""
    blocks: Natural = 2
    """Residual blocks (SimBa) or hidden layers (MLP)."""


# Of two bases a dataclass puts the last one's fields first: the shape, then the pruning.
@dataclass(frozen=True)
class NetworkConfig(Pruning, NetworkShape):
    """A network's shape and its sparsity."""


@dataclass(frozen=True)
class CriticConfig(NetworkConfig):
    """A critic's shape, its sparsity, and how many of it vote."""

    members: Natural = 1
    """Critics trained side by side; their minimum is the target (2 = clipped double Q)."""
