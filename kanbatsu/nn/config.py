"""The configuration of one network: its shape and how much of it is removed before training."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from kanbatsu.files.tables import ADDED
from kanbatsu.ranges import Natural, Positive
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
    norm: Literal["none", "layernorm"] = field(default="none", metadata=ADDED)
    """Normalisation before each ReLU of an MLP: none, or LayerNorm. SimBa has its own."""
    residual: bool = field(default=False, metadata=ADDED)
    """Flag of an MLP whose hidden layers after the first add their outputs to their inputs."""
    first_scale: Positive = field(default=1.0, metadata=ADDED)
    """Scale of the first weights of an MLP's hidden layers, beside the usual one."""


# Of two bases a dataclass puts the last one's fields first: the shape, then the pruning.
@dataclass(frozen=True)
class NetworkConfig(Pruning, NetworkShape):
    """A network's shape and its sparsity."""


@dataclass(frozen=True)
class CriticConfig(NetworkConfig):
    """A critic's shape, its sparsity, and how many of it vote."""

    members: Natural = 1
    """Critics trained side by side; their minimum is the target (2 = clipped double Q)."""
