"""Decides beforehand how pruned layers multiply, and writes it down."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from kanbatsu.sparsity.config import COMPUTE, check_choice
from kanbatsu.torch.find import layers_by_path
from kanbatsu.torch.kept import KeptLinear
from kanbatsu.torch.layers import PrunedLinear


def settle(
    module: nn.Module, batch: int | None = None, compute: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Pin how each pruned linear layer multiplies: as measured now, or as a record says.

    With `compute="auto"` a layer takes the faster product, which is measured at its first call, and
    the two differ in rounding. A run that is to be repeated bit for bit, on this machine or on
    another one, takes the record of the first one.

    Args:
        module: a pruned module.
        batch: number of samples of a training step, to measure with.
        compute: what a former call returned, in place of a measurement.

    Returns:
        `packed` or `masked` by path of the weight.

    Raises:
        ValueError: if neither or both are given, a path is no pruned linear layer, or a word is
            unknown; nothing is pinned then.

    Example:
        >>> from kanbatsu.torch import prune
        >>> network = prune(nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2)), 0.5)
        >>> settle(network, batch=32)
        {'0.weight': 'masked', '2.weight': 'masked'}
    """
    layers = {
        path: layer
        for path, layer in layers_by_path(module).items()
        if isinstance(layer, PrunedLinear | KeptLinear)
    }
    if (batch is None) == (compute is None):
        raise ValueError(
            "give a batch to measure with, or the record of a former measurement (compute=...)"
        )
    if compute is None:
        with torch.enable_grad():
            compute = {path: _measured(layer, int(batch or 1)) for path, layer in layers.items()}
    unknown = sorted(set(compute) - set(layers))
    if unknown:
        raise ValueError(
            f"{', '.join(unknown)} is no pruned linear layer here: these are "
            f"{', '.join(layers) or 'none'}"
        )
    for word in compute.values():
        check_choice("compute", word, COMPUTE)
    for path, word in compute.items():
        layers[path].compute = word
    return dict(compute)


def _measured(layer: Any, batch: int) -> str:
    if layer.compute in ("masked", "packed"):
        return layer.compute
    x = torch.ones(batch, layer.in_features, dtype=torch.float32, device="cpu")
    return "packed" if layer.takes_packed(x) else "masked"
