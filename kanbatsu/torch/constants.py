"""Numbers that a module holds beside its layers, such as those of a normaliser of observations."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from kanbatsu.deploy.entry import GREATEST
from kanbatsu.deploy.layers import Clip, Linear, Normalise
from kanbatsu.deploy.network import smallest
from kanbatsu.torch.kernels import CannotExport, to_numpy

CLAMPS = (torch.clamp, torch.clip, "clamp", "clip")
STEPS: Mapping[Any, str] = {
    operator.sub: "less", torch.sub: "less", "sub": "less",
    operator.add: "plus", torch.add: "plus", "add": "plus",
    operator.truediv: "over", torch.div: "over", "div": "over",
    operator.mul: "times", torch.mul: "times", "mul": "times",
}  # fmt: skip
"""Functions, and methods by name, that a normaliser is made of."""
MOVES: Mapping[str, Callable[[Any, Any, Any], tuple[Any, Any]]] = {
    "less": lambda mean, scale, c: (mean + scale * c, scale),
    "plus": lambda mean, scale, c: (mean - scale * c, scale),
    "over": lambda mean, scale, c: (mean, scale * c),
    "times": lambda mean, scale, c: (mean, scale / c),
}
"""Results of each step on `(x - mean) / scale`."""


def constants_of(graph: fx.Graph, module: nn.Module) -> dict[fx.Node, Any]:
    """Compute what depends on no input: buffers, and what is calculated from them alone."""
    values: dict[fx.Node, Any] = {}
    for node in graph.nodes:
        if node.op == "get_attr":
            values[node] = operator.attrgetter(str(node.target))(module)
            continue
        inputs = node.all_input_nodes
        called = node.op in ("call_function", "call_method")
        if not (called and inputs and all(value in values for value in inputs)):
            continue
        args, settings = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
        target: Any = node.target
        if node.op == "call_method":
            target, args = getattr(args[0], target), args[1:]
        with torch.no_grad():
            values[node] = target(*args, **settings)
    return values


def numbers(value: Any) -> np.ndarray:
    """Return a constant as float32 numbers, `[1]` or `[features]`.

    Example:
        >>> numbers(2), numbers(torch.ones(1, 3))
        (array([2.], dtype=float32), array([1., 1., 1.], dtype=float32))
    """
    return np.ravel(to_numpy(torch.as_tensor(value)))


def moved(begin: Normalise, step: str, value: Any) -> Normalise:
    """Return a normaliser with one more step.

    Example:
        >>> begin = Normalise(np.zeros(1), np.ones(1))
        >>> moved(moved(begin, "less", 3.0), "over", 2.0)
        Normalise(mean=array([3.]), scale=array([2.]))
    """
    exact = (np.asarray(x, np.float64) for x in (*begin, numbers(value)))
    return Normalise(*MOVES[step](*exact))


UNMOVED = Normalise(np.zeros(1), np.ones(1))
"""Normaliser that changes nothing."""


def scaled(width: int, scaling: Normalise) -> Linear | None:
    """Return the layer that moves and scales what layers gave; None where it changes nothing.

    Args:
        width: numbers that come in, and go out.
        scaling: what it computes, `(x - mean) / scale`, of one number or of `[width]`.

    Raises:
        CannotExport: the scaling has another width.

    Example:
        >>> layer = scaled(2, moved(UNMOVED, "times", 3.0))
        >>> layer.inputs, layer.outputs, scaled(2, UNMOVED)
        (2, 2, None)
    """
    try:
        mean, scale = (np.broadcast_to(x, width) for x in scaling)
    except ValueError:
        sizes = max(x.size for x in scaling)
        raise CannotExport(f"it moves or scales {width} numbers by {sizes}") from None
    if not mean.any() and (scale == 1).all():
        return None
    weight = np.diag(1 / scale).astype(np.float32)
    shift = (-mean / scale).astype(np.float32)
    return Linear(smallest(weight, weight != 0), shift, width, width, relu=False)


def clip_of(low: Any, high: Any) -> Clip:
    """Return the layer that clips to constants; None is no bound."""
    ends = (-GREATEST if low is None else low, GREATEST if high is None else high)
    return Clip(*(numbers(end) for end in ends))
