"""Sees that a module is pruned already as it is to be: a cell of a notebook that is run again."""

from __future__ import annotations

from typing import Any

from torch import nn

from kanbatsu.sparsity.draw import Scope, Sparsity, split
from kanbatsu.sparsity.kernel import Kernel, Paths, choose
from kanbatsu.torch.find import is_pruned, kernel_of, layers_by_path
from kanbatsu.torch.layers import PRUNED
from kanbatsu.torch.pruned import is_computed
from kanbatsu.torch.storing import storage_of
from kanbatsu.torch.tensors import Part

MESSAGE = (
    "this module was pruned already, to this sparsity and with this seed, and nothing was changed "
    "(see kanbatsu.torch.count for what it keeps). For masks drawn anew, prune a fresh module"
)


def is_pruned_so(
    module: nn.Module,
    sparsity: Sparsity,
    seed: int,
    scope: Scope,
    also: Paths | None = None,
    storage: str = "dense",
) -> bool:
    """Return whether a module has lost the shares that are asked for, by masks of that seed.

    How a share is spread over its layers is not compared: a policy whose parts were pruned to 0.8
    each is one that was pruned to 0.8.

    Example:
        >>> from kanbatsu.torch import prune
        >>> network = prune(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4)), 0.5)
        >>> [is_pruned_so(network, share, 0, Scope()) for share in (0.5, {"*": 0.5}, 0.75)]
        [True, True, False]
    """
    layers = {
        path: layer
        for path, layer in layers_by_path(module, also).items()
        if isinstance(layer, Part) or is_pruned(layer) or type(layer) in PRUNED
    }
    seeds = {layer.seed for layer in layers.values() if is_pruned(layer)} - {None}
    kernels = [kernel_of(path, layer) for path, layer in layers.items() if not is_computed(layer)]
    meant = choose(kernels, scope.included, scope.exclude)
    pruned = [layers[kernel.path] for kernel in meant if is_pruned(layers[kernel.path])]
    if any(storage_of(layer) != storage for layer in pruned):
        return False
    share, shares = split(sparsity)
    return seeds == {seed} and all(
        _has_lost(part, [kernel for kernel in meant if kernel.matches(glob)], layers)
        for glob, part in (shares or {"*": share}).items()
    )


def _has_lost(share: float, kernels: list[Kernel], layers: dict[str, Any]) -> bool:
    """Compare the counts; each layer's may be rounded."""
    kept = total = 0
    for kernel in kernels:
        layer = layers[kernel.path]
        total += kernel.size
        kept += int(layer.weight_mask.count_nonzero()) if is_pruned(layer) else kernel.size
    return bool(kernels) and abs(kept - (1 - share) * total) <= len(kernels)
