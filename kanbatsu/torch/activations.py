"""Activations that a policy computes, and what PyTorch calls them: functions, methods, modules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from kanbatsu.deploy.layers import Activate, Layer
from kanbatsu.torch.kernels import CannotExport

FUNCTIONS: Mapping[Any, str] = {
    torch.relu: "relu",
    functional.relu: "relu",
    functional.leaky_relu: "leaky_relu",
    functional.elu: "elu",
    functional.gelu: "gelu",
    functional.silu: "silu",
    torch.tanh: "tanh",
    functional.tanh: "tanh",
    torch.sigmoid: "sigmoid",
    functional.sigmoid: "sigmoid",
    functional.softplus: "softplus",
    "relu": "relu",
    "tanh": "tanh",
    "sigmoid": "sigmoid",
}
"""Functions, and methods by name, that a forward may call."""
PARAMETERS = {"leaky_relu": ("negative_slope", 0.01), "elu": ("alpha", 1.0)}
"""Names and defaults of what a function takes beside a tensor."""


def is_activation(layer: Layer, function: str) -> bool:
    """Return whether a layer is one activation.

    Example:
        >>> is_activation(Activate("tanh", 1.0), "tanh")
        True
    """
    return isinstance(layer, Activate) and layer.function == function


def _softplus(module: Any) -> Layer:
    if module.beta != 1:
        raise CannotExport(f"it holds Softplus with beta={module.beta}, and 1 is known")
    return Activate("softplus", 1.0)


ACTIVATIONS: Mapping[type, Callable[[Any], Layer]] = {
    nn.ReLU: lambda m: Activate("relu", 1.0),
    nn.LeakyReLU: lambda m: Activate("leaky_relu", float(m.negative_slope)),
    nn.ELU: lambda m: Activate("elu", float(m.alpha)),
    nn.GELU: lambda m: Activate("gelu_tanh" if m.approximate == "tanh" else "gelu", 1.0),
    nn.SiLU: lambda m: Activate("silu", 1.0),
    nn.Tanh: lambda m: Activate("tanh", 1.0),
    nn.Sigmoid: lambda m: Activate("sigmoid", 1.0),
    nn.Softplus: _softplus,
}
