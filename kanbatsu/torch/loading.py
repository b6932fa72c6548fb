"""What a pruned module checks before it loads a state_dict, so that a wrong one changes nothing.

Torch loads layer by layer and reports what did not fit at the end, when the rest is already
overwritten. A hook on the module that was pruned looks at everything first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from kanbatsu.torch.find import is_pruned, layers_by_path
from kanbatsu.torch.names import KEPT
from kanbatsu.torch.reading import masked_paths
from kanbatsu.torch.stored import kept_paths


def check_when_loading(module: nn.Module) -> None:
    """Have a module check every state_dict before it loads any of it."""
    module.register_load_state_dict_pre_hook(check_state_dict)


def forget_check(module: nn.Module) -> None:
    """Take that check off again, wherever in the module it was asked for."""
    for part in module.modules():
        hooks = part._load_state_dict_pre_hooks
        ours = [k for k, hook in hooks.items() if getattr(hook, "hook", None) is check_state_dict]
        for key in ours:
            del hooks[key]


def check_state_dict(
    module: nn.Module, state_dict: Mapping[str, Tensor], prefix: str, *_: Any
) -> None:
    """Refuse a state_dict that does not fit the pruned layers of a module.

    A state_dict without any mask is dense: it fits, and the masks stay. One with masks must have
    one for exactly those layers that are pruned here.

    Args:
        module: what is about to load it.
        state_dict: names and values.
        prefix: what the names of this module begin with.

    Raises:
        ValueError: if a weight or a mask has another shape, or other layers are pruned.
    """
    paths = {prefix + path: layer for path, layer in layers_by_path(module).items()}
    pruned = {path: layer for path, layer in paths.items() if is_pruned(layer)}
    kept = {path: f"{path.removesuffix('weight')}{KEPT}" for path in kept_paths(state_dict)}
    for path, layer in pruned.items():
        here = tuple(layer.weight_mask.shape)
        there = {
            name: tuple(state_dict[name].shape)
            for name in (path, f"{path}_mask")
            if name in state_dict
        }
        if path in kept:
            there[kept[path]] = tuple(int(size) for size in state_dict[f"{path}_shape"][:2])
        for name, shape in there.items():
            if shape != here:
                raise ValueError(
                    f"{name} is {shape} in the state_dict, and the weight is {here} here; "
                    "nothing was loaded"
                )
    masked = {path for path in [*masked_paths(state_dict), *kept] if path.startswith(prefix)}
    for path in sorted(masked ^ set(pruned)) if masked else ():
        if (path in state_dict or path in kept) and path in paths:
            ours, theirs = ("pruned", "dense") if path in pruned else ("dense", "pruned")
            raise ValueError(
                f"{path} is {ours} here and {theirs} in the state_dict; nothing was loaded. Into a "
                "fresh module: kanbatsu.torch.apply_masks(module, kanbatsu.torch.masks(state_dict))"
                ", then load"
            )
