"""The weights of a SimBa of PyTorch from kanbatsu's own, and the way back; this needs JAX."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import Tensor, nn

from kanbatsu.nn import simba as jax_simba
from kanbatsu.sparsity.weight import Masked, is_pruned, to_dense
from kanbatsu.torch.pruned import Pruned


def copied(module: nn.Module, encoder: jax_simba.SimBa) -> dict[str, Tensor]:
    """Copy the weights of kanbatsu's own SimBa into a module, and return the masks by path."""
    masks = {}
    with torch.no_grad():
        for (path, layer), ours in zip(_layers(module), _layers_of(encoder), strict=True):
            if isinstance(layer, nn.LayerNorm):
                layer.weight.copy_(_tensor(ours.scale))
                layer.bias.copy_(_tensor(ours.shift))
                continue
            layer.weight.copy_(_tensor(to_dense(ours.weight)).T)
            layer.bias.copy_(_tensor(ours.bias))
            if is_pruned(ours.weight):
                masks[f"{path}.weight"] = _tensor(_mask(ours.weight)).T
    return masks


def in_jax(module: nn.Module, inputs: int, width: int, blocks: int) -> jax_simba.SimBa:
    """Return kanbatsu's own SimBa with the weights of a module, pruned as it is."""
    skeleton = jax_simba.SimBa(inputs, width, blocks, key=jax.random.key(0))
    layers = []
    for (_, layer), ours in zip(_layers(module), _layers_of(skeleton), strict=True):
        weight, bias = _array(layer.weight), _array(layer.bias)
        if isinstance(layer, nn.LayerNorm):
            layers.append(eqx.tree_at(lambda norm: (norm.scale, norm.shift), ours, (weight, bias)))
            continue
        kernel: Any = weight.T
        if isinstance(layer, Pruned):
            kernel = Masked.of(kernel, _array(layer.weight_mask).T != 0)
        layers.append(
            eqx.tree_at(lambda linear: (linear.weight, linear.bias), ours, (kernel, bias))
        )
    return eqx.tree_at(lambda encoder: list(_layers_of(encoder)), skeleton, layers)


def _layers(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """Name the layers in the order in which they compute."""
    for path, layer in module.named_modules():
        if isinstance(layer, nn.Linear | nn.LayerNorm):
            yield path, layer


def _layers_of(encoder: jax_simba.SimBa) -> Iterator[Any]:
    """Return the layers of kanbatsu's own SimBa in the same order."""
    yield encoder.embed
    for block in encoder.blocks:
        yield from (block.norm, block.up, block.down)
    yield encoder.norm


def _mask(weight: Any) -> Any:
    """Return what a pruned weight keeps, whatever it is stored as, `[inputs, outputs]`."""
    return to_dense(weight.like(jnp.ones(weight.shape, weight.dtype))) != 0


def _tensor(array: Any) -> Tensor:
    return torch.from_numpy(np.array(array))


def _array(tensor: Tensor) -> Any:
    return jnp.asarray(tensor.detach().cpu().numpy().copy())
