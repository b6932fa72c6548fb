"""Activations of a policy by name: what each computes, in numpy and as nodes of ONNX."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

FUNCTIONS = (
    "relu",
    "leaky_relu",
    "elu",
    "gelu",
    "gelu_tanh",
    "silu",
    "tanh",
    "sigmoid",
    "softplus",
)
"""Names of activations; their order is that of `Function` in kernels/csrc/policy.cc."""
GELU_SCALE, GELU_CUBE = math.sqrt(2 / math.pi), 0.044715
"""Constants of GELU by tanh (Hendrycks and Gimpel 2016)."""

_erf = np.vectorize(math.erf, otypes=[np.float32])


def activate(function: str, x: np.ndarray, alpha: float) -> np.ndarray:
    """Apply an activation to float32 numbers.

    Args:
        function: one of `FUNCTIONS`.
        x: numbers of any shape.
        alpha: slope below zero of leaky_relu; depth of elu; others do not read it.

    Example:
        >>> activate("leaky_relu", np.float32([-2, 2]), 0.5).tolist()
        [-1.0, 2.0]
    """
    match function:
        case "relu":
            return np.maximum(x, 0)
        case "leaky_relu":
            return np.where(x < 0, np.float32(alpha) * x, x)
        case "elu":
            return np.where(x < 0, np.float32(alpha) * np.expm1(np.minimum(x, 0)), x)
        case "gelu":
            return x * np.float32(0.5) * (1 + _erf(x * np.float32(math.sqrt(0.5)))) if x.size else x
        case "gelu_tanh":
            inner = np.float32(GELU_SCALE) * (x + np.float32(GELU_CUBE) * x**3)
            return x * np.float32(0.5) * (1 + np.tanh(inner))
        case "silu":
            return x * _sigmoid(x)
        case "tanh":
            return np.tanh(x)
        case "sigmoid":
            return _sigmoid(x)
        case _:
            return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    # tanh does not overflow, as exp would.
    return np.float32(0.5) * (1 + np.tanh(np.float32(0.5) * x))


def onnx_activation(add: Callable[..., str], function: str, x: str, alpha: float) -> str:
    """Add the nodes of an activation to a graph, and return the name of their output.

    Args:
        add: adds a node of an operation and its inputs.
        function: one of `FUNCTIONS`.
        x: name of the input.
        alpha: as for `activate`.
    """
    plain = {"relu": "Relu", "tanh": "Tanh", "sigmoid": "Sigmoid", "softplus": "Softplus"}
    shaped = {"leaky_relu": "LeakyRelu", "elu": "Elu"}
    if function in plain:
        return add(plain[function], x)
    if function in shaped:
        return add(shaped[function], x, alpha=alpha)
    if function == "silu":
        return add("Mul", x, add("Sigmoid", x))
    number: Any = np.float32
    if function == "gelu":
        bent = add("Erf", add("Mul", x, number(math.sqrt(0.5))))
    else:
        cube = add("Mul", add("Mul", add("Mul", x, x), x), number(GELU_CUBE))
        bent = add("Tanh", add("Mul", add("Add", x, cube), number(GELU_SCALE)))
    return add("Mul", add("Mul", x, number(0.5)), add("Add", bent, number(1.0)))
