"""The configuration of one network: its shape and how much of it is removed before training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Distribution = Literal["uniform", "er", "erk"]
Pattern = Literal["element", "grouped", "bernoulli"]
Compute = Literal["auto", "masked", "packed"]


@dataclass(frozen=True)
class NetworkConfig:
    """A network's shape and its sparsity."""

    network: Literal["simba", "mlp"] = "simba"
    """SimBa (residual blocks with LayerNorm) or a plain ReLU multi-layer perceptron."""
    width: int = 512
    """Features of the residual stream (SimBa) or of each hidden layer (MLP)."""
    blocks: int = 2
    """Residual blocks (SimBa) or hidden layers (MLP)."""
    sparsity: float = 0.0
    """Share of the kernels' weights that is removed once, before training: 0 <= S < 1."""
    distribution: Distribution = "erk"
    """How the sparsity is spread over the layers."""
    pattern: Pattern = "element"
    """Which weights of a layer go: single elements, whole inputs for a group of outputs, or single
    elements with a count that varies (bernoulli, to mirror the paper's public code)."""
    group_size: int = 16
    """Neighbouring outputs that share one list of inputs; read by the grouped pattern only."""
    compute: Compute = "auto"
    """How pruned weights are stored and multiplied: as masked dense ones, packed (kept values
    only), or whichever is faster on this machine. The same function either way."""


@dataclass(frozen=True)
class CriticConfig(NetworkConfig):
    """A critic's shape, its sparsity, and how many of it vote."""

    members: int = 1
    """Critics trained side by side; their minimum is the target (2 = clipped double Q)."""
