"""Puts masks on the layers of a module, and takes them off again."""

from __future__ import annotations

import glob
from collections.abc import Callable, Sequence
from typing import TypeVar

from torch import Tensor, nn

from kanbatsu.sparsity.kernel import Kernel
from kanbatsu.torch.find import is_pruned, layers_by_path
from kanbatsu.torch.layers import put_mask
from kanbatsu.torch.loading import check_when_loading, forget_check
from kanbatsu.torch.pruned import Pruned, is_computed
from kanbatsu.torch.storing import (
    Optimizers,
    check_can_be_kept,
    kept_layers,
    resized,
    store_kept,
)
from kanbatsu.torch.tensors import Part, PrunedTensors, parts_by_path

Module = TypeVar("Module", bound=nn.Module)


def thin(
    module: Module,
    masks: Sequence[tuple[Kernel, Tensor]],
    compute: str,
    seed: int | None,
    storage: Callable[[str], str],
    optimizer: Optimizers,
) -> Module:
    """Put the masks on, all of them, after everything that could go wrong has been checked."""
    layers = layers_by_path(module, [glob.escape(path) for path in parts_by_path(module)])
    thinned = [(path, mask) for kernel, mask in masks if not mask.all() for path in kernel.paths]
    kept = {path for path, _ in thinned if storage(path) == "kept"}
    if kept or optimizer is not None:
        check_can_be_kept(module, {path: layers[path] for path in kept})
        stored = [(layers[path], mask) for path, mask in thinned if path in kept]
        store_kept(stored, compute, seed, optimizer)
    for path, mask in thinned:
        layer = layers[path]
        if path in kept:
            continue
        if isinstance(layer, Part):
            layer.put_mask(mask.reshape(layer.weight.shape), seed)
        else:
            put_mask(layer, mask, compute, seed)
    if thinned:
        check_when_loading(module)
    return module


def unprune(module: Module, optimizer: Optimizers = None) -> Module:
    """Turn a pruned module back into a plain one whose weights hold zeros, in place.

    Nothing of kanbatsu is left in the module or in its state_dict; training it goes on
    densely.

    Args:
        module: a pruned module.
        optimizer: of layers that store their kept values alone, the optimizer, or several, whose
            moments are to become dense too; one that has moments and is not given is refused.

    Returns:
        The same module.

    Raises:
        ValueError: if the module is not pruned, or the weight of a pruned layer has become one that
            is computed from others, by a parametrization, or for an optimizer as above. The module
            is then as it was.

    Example:
        >>> from kanbatsu.torch import prune
        >>> unprune(prune(nn.Linear(8, 4), 0.75))
        Linear(in_features=8, out_features=4, bias=True)
    """
    pruned = [layer for layer in module.modules() if isinstance(layer, Pruned | PrunedTensors)]
    if not pruned:
        raise ValueError("this module is not pruned: no layer has a mask")
    computed = [
        path
        for path, layer in layers_by_path(module).items()
        if is_pruned(layer) and is_computed(layer)
    ]
    if computed:
        raise ValueError(
            f"{', '.join(computed)} is computed from other parameters, by weight_norm or "
            "spectral_norm say, and nothing was changed: take that off first (torch.nn.utils."
            "parametrize.remove_parametrizations, remove_spectral_norm, remove_weight_norm)"
        )
    move = resized(kept_layers(module), optimizer)
    for layer in pruned:
        layer.take_mask()
    move()
    forget_check(module)
    return module
