"""The masks that a pruned module holds, or a state_dict of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from kanbatsu.torch.find import is_pruned, layers_by_path
from kanbatsu.torch.names import MASK
from kanbatsu.torch.stored import masks_in


def masks(source: nn.Module | Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the mask of every pruned layer of a module, or of a module's state_dict.

    Returns:
        Boolean tensors (True = kept) by path of the weight, such as `actor.0.weight`; layers that
        are dense have none.

    Example:
        >>> from kanbatsu.torch import prune
        >>> {path: int(mask.sum()) for path, mask in masks(prune(nn.Linear(8, 4), 0.75)).items()}
        {'weight': 8}
    """
    if isinstance(source, Mapping):
        beside = {path: source[f"{path}_mask"] != 0 for path in masked_paths(source)}
        return beside | masks_in(source)
    return {
        path: layer.weight_mask != 0
        for path, layer in layers_by_path(source).items()
        if is_pruned(layer)
    }


def masked_paths(state_dict: Mapping[str, Any]) -> list[str]:
    """Return the paths of the weights that have a mask beside them in a state_dict.

    Example:
        >>> masked_paths({"0.weight": 1, "0.weight_mask": 1, "gru.weight_hh_l0": 1})
        ['0.weight']
    """
    paths = [name.removesuffix("_mask") for name in state_dict if name.endswith("_mask")]
    return [path for path in paths if path in state_dict or f".{path}_mask".endswith(f".{MASK}")]
