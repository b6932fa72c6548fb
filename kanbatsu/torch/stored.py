"""Kept values in a state_dict: what their names are, and the dense weights that they stand for."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kanbatsu.kernels.constants import BLOCK
from kanbatsu.torch.names import BITS, KEPT, MASK, SHAPE
from kanbatsu.torch.places import Places


def places_in(state_dict: Mapping[str, Any], prefix: str) -> Places | None:
    """Read where kept values belong; None where a state_dict does not say.

    Raises:
        ValueError: if they are listed by other blocks than the kernels of this version read.
    """
    bits, sizes = state_dict.get(prefix + BITS), state_dict.get(prefix + SHAPE)
    if bits is None or sizes is None:
        return None
    outputs, inputs, block = (int(size) for size in sizes)
    if block != BLOCK and inputs > min(block, BLOCK):
        raise ValueError(
            f"{prefix}{KEPT} is listed by blocks of {block} inputs, and this version of kanbatsu "
            f"reads blocks of {BLOCK}: turn it dense with the version that wrote it, by "
            "kanbatsu.torch.dense_state_dict"
        )
    return Places.of_bits(bits.cpu().numpy(), outputs, inputs)


def kept_paths(state_dict: Mapping[str, Any]) -> list[str]:
    """Return the paths of the weights of which a state_dict holds the kept values alone.

    Example:
        >>> kept_paths({"0.weight_bits": 1, "0.weight_kept": 1, "2.weight": 1})
        ['0.weight']
    """
    names = [name for name in state_dict if f".{name}".endswith(f".{BITS}")]
    return [name.removesuffix("_bits") for name in names]


def put_dense(state_dict: MutableMapping[str, Any], prefix: str, mask: bool = True) -> None:
    """Replace the kept values of a layer in a state_dict by its dense weight, and its mask."""
    places = places_in(state_dict, prefix)
    values = state_dict.pop(prefix + KEPT, None)
    if places is None:
        return
    for name in (BITS, SHAPE):
        del state_dict[prefix + name]
    if values is not None:
        state_dict[prefix + "weight"] = places.dense(values.detach())
    if mask:
        state_dict[prefix + MASK] = places.mask()


def dense_state_dict(state_dict: Mapping[str, Tensor], with_masks: bool = False) -> dict[str, Any]:
    """Return a state_dict with dense weights in the place of kept values: zeros where pruned.

    A module that never was pruned can load it. Pruned modules load kept and dense state_dicts
    alike, whatever their own storage is.

    Args:
        state_dict: that of a module which was pruned with `storage="kept"`.
        with_masks: flag of masks beside the weights, as a module with dense storage stores them.

    Returns:
        A new dictionary; tensors that do not change are the same.

    Example:
        >>> from torch import nn
        >>> from kanbatsu.torch import prune
        >>> layer = prune(nn.Linear(8, 4), 0.75, storage="kept")
        >>> list(layer.state_dict()), list(dense_state_dict(layer.state_dict()))
        (['weight_kept', 'bias', 'weight_bits', 'weight_shape'], ['weight', 'bias'])
    """
    dense: dict[str, Any] = dict(state_dict)
    for path in kept_paths(state_dict):
        put_dense(dense, path.removesuffix("weight"), with_masks)
    order = {name: index for index, name in enumerate(map(_dense_name, state_dict))}
    return dict(sorted(dense.items(), key=lambda item: order.get(item[0], len(order))))


def _dense_name(name: str) -> str:
    return f"{name.removesuffix(KEPT)}weight" if f".{name}".endswith(f".{KEPT}") else name


def masks_in(state_dict: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the masks of the kept values in a state_dict, by path of the weight."""
    masks: dict[str, Tensor] = {}
    for path in kept_paths(state_dict):
        outputs, inputs, _ = (int(n) for n in state_dict[f"{path}_shape"])
        bits = np.unpackbits(state_dict[f"{path}_bits"].cpu().numpy(), count=outputs * inputs)
        masks[path] = torch.from_numpy(bits.reshape(outputs, inputs)).bool()
    return masks
