"""Exports a greedy policy of PyTorch to files that run without PyTorch and without JAX."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kanbatsu.deploy.layers import Layer, Linear, Normalise, Squash
from kanbatsu.deploy.network import smallest
from kanbatsu.deploy.write import Bound, Export, Original, write_policy
from kanbatsu.torch.pruned import Pruned


def export_policy(
    actor: nn.Module,
    out_dir: str | os.PathLike[str],
    *,
    low: Bound = -1.0,
    high: Bound = 1.0,
) -> None:
    """Write a deterministic policy for `kanbatsu.deploy.load`; of pruned layers, what they keep.

    The action is `tanh(actor(obs))`, brought from [-1, 1] to the bounds. An actor that ends in
    `nn.Tanh` may keep it: tanh is applied once. Nothing is normalised.

    Args:
        actor: linear layers, pruned or dense, and `nn.ReLU`, in an `nn.Sequential`. Of an actor
            with a trunk and heads, pass `nn.Sequential(actor.trunk, actor.mean)`.
        out_dir: gets `policy.json`, `policy.safetensors` and, where the package onnx is installed,
            `policy.onnx`.
        low: lowest value of each entry of an action, `[action_dim]` or one for all.
        high: highest value likewise.

    Raises:
        ValueError: for an actor with other layers, numbers that are not finite, or bounds that do
            not fit; nothing is written then.

    Example:
        >>> import tempfile
        >>> from kanbatsu.deploy import load
        >>> from kanbatsu.torch import prune
        >>> actor = prune(nn.Sequential(nn.Linear(3, 64), nn.ReLU(), nn.Linear(64, 2)), 0.5)
        >>> folder = tempfile.mkdtemp()
        >>> export_policy(actor, folder, low=-2.0, high=2.0)
        >>> load(folder)
        Policy(obs_dim=3, action_dim=2)
    """
    modules = list(_flat(actor))
    if modules and isinstance(modules[-1], nn.Tanh):
        modules.pop()
    layers: list[Linear] = []
    for before, module in zip([None, *modules], modules, strict=False):
        if isinstance(module, nn.Linear):
            layers.append(_linear(module))
        elif isinstance(module, nn.ReLU) and isinstance(before, nn.Linear):
            layers[-1] = layers[-1]._replace(relu=True)
        else:
            raise ValueError(
                f"this actor cannot be exported: it holds {type(module).__name__} where nn.Linear, "
                "or nn.ReLU after it, should be; pass those layers as an nn.Sequential"
            )
    if not layers:
        raise ValueError("this actor cannot be exported: it has no linear layer")
    inputs, outputs = layers[0].inputs, layers[-1].outputs
    try:
        bounds = [np.broadcast_to(np.asarray(bound, np.float32), outputs) for bound in (low, high)]
    except ValueError:
        raise ValueError(f"low and high must be one number, or {outputs} each") from None
    as_it_comes = Normalise(np.zeros(inputs, np.float32), np.ones(inputs, np.float32))
    written: list[Layer] = [as_it_comes, *layers, Squash(*bounds)]
    write_policy(written, out_dir, _original(actor, bounds), Export())


def _flat(module: nn.Module) -> Iterator[nn.Module]:
    """Every layer of nested sequences, in order."""
    if isinstance(module, nn.Sequential):
        for child in module:
            yield from _flat(child)
    else:
        yield module


def _linear(layer: nn.Linear) -> Linear:
    """Store a layer in the fewest bytes; a weight of zero need not be stored, pruned or not."""
    weight = layer.masked_weight() if isinstance(layer, Pruned) else layer.weight
    value = _array(weight).T
    bias = np.zeros(layer.out_features, np.float32) if layer.bias is None else _array(layer.bias)
    stored = smallest(value, value != 0)
    return Linear(stored, bias, layer.in_features, layer.out_features, relu=False)


def _array(tensor: Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.detach().float().cpu().numpy())


def _original(actor: nn.Module, bounds: Any) -> Original:
    """The module's own action, brought to the bounds."""
    low, high = bounds

    def act(obs: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            out = actor(torch.as_tensor(obs)).numpy()
        unit = out if isinstance(list(_flat(actor))[-1], nn.Tanh) else np.tanh(out)
        return (low + high) / 2 + (high - low) / 2 * unit

    return Original(act, type(actor).__name__)
