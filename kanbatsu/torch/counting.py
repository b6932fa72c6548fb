"""What a torch module keeps: a table of its layers."""

from __future__ import annotations

from typing import Any

from torch import nn

from kanbatsu.sparsity.table import NOTHING_TO_COUNT, Count, LayerCount, kernel_count
from kanbatsu.torch.find import is_pruned, kernel_of, layers_by_path
from kanbatsu.torch.layers import PRUNED
from kanbatsu.torch.pruned import is_computed, parameter_of


def count(module: Any) -> Count:
    """Count kept and total weights of linear and convolution layers, and of what else is pruned.

    A weight that several layers share counts once.

    Args:
        module: any torch module, or a model of Stable-Baselines3, of which the policy is counted.

    Returns:
        The table that `kanbatsu.count` returns too: `print` it, or read `kept`, `total`,
        `sparsity` and `layers`. Shapes are `(*window, inputs, outputs)`.

    Raises:
        ValueError: if the module has no such layer, or is no module.

    Example:
        >>> from kanbatsu.torch import prune
        >>> print(count(prune(nn.Sequential(nn.Linear(8, 4), nn.ReLU()), 0.75)))
        layer     shape          kept        total  sparsity
        0.weight  (8, 4)            8           32    0.7500
        all                         8           32    0.7500
    """
    if not isinstance(module, nn.Module):
        policy = getattr(module, "policy", None)
        if not isinstance(policy, nn.Module):
            kind = type(module).__name__
            raise ValueError(f"only a torch module can be counted, and this is a {kind}")
        module = policy
    rows: dict[int, LayerCount] = {}
    for path, layer in layers_by_path(module).items():
        if type(layer) in PRUNED or is_pruned(layer):
            kernel, pruned = kernel_of(path, layer), is_pruned(layer)
            kept = int(layer.weight_mask.count_nonzero()) if pruned else kernel.size
            key = id(layer if is_computed(layer) else parameter_of(layer))
            rows.setdefault(key, kernel_count(kernel, kept))
    if not rows:
        raise ValueError(NOTHING_TO_COUNT)
    return Count(tuple(rows.values()))
