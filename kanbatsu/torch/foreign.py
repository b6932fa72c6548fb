"""Notices that values were copied into a pruned layer from one with another mask.

A target network that was pruned by itself, `prune(critic, seed=0)` and `prune(target, seed=1)`, is
another function than the network it follows. What gives it away is the copy, or average, that
targets are made of: it writes into pruned places, but only into those that the other layer keeps.
"""

from __future__ import annotations

import math
import os
import warnings
import weakref
from typing import Any

import torch
from torch import Tensor

from kanbatsu.torch.names import KEPT

LEAST_SURPRISE = 20.0
"""Warn if chance would put the values where they lie with a probability below exp(-20)."""
MESSAGE = (
    "a pruned layer was given the weights of another one that has other masks, as a target network "
    "that was pruned by itself is: it computes another function than the network it follows. Prune "
    "the network, then kanbatsu.torch.prune_like(target, network), or copy the pruned network "
    "(copy.deepcopy)"
)
_PROCESS = os.getpid()
_LAYERS: weakref.WeakSet[Any] = weakref.WeakSet()


def enlist(layer: Any) -> None:
    """Remember a pruned layer as one whose weights may be copied into others, while it lives."""
    _LAYERS.add(layer)


def strike(layer: Any) -> None:
    """Forget a layer that has no mask any more."""
    _LAYERS.discard(layer)


def look_now_and_then(layer: Any) -> None:
    """Count the calls of a layer, and look at the 1st, 2nd, 4th, 8th and so on.

    A copy that is made again and again is seen before the layer has been called twice as often as
    when it was made first; looking costs nothing beside so many calls.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # type: ignore[attr-defined]
        return
    layer.calls += 1
    if layer.calls & (layer.calls - 1) == 0:
        weight = layer._parameters.get("weight")
        if weight is not None and can_be_seen(weight):
            warn_if_foreign(layer, weight.detach())


def warn_if_foreign(layer: Any, weight: Tensor) -> None:
    """Warn, once for a layer, if values of another pruned layer lie where this one is pruned.

    Args:
        layer: the pruned layer.
        weight: what is in it now, or is about to be loaded.
    """
    gone = layer.weight_mask == 0
    written = (weight != 0) & gone
    if not written.any() or layer.has_warned:
        return
    count, room = int(written.sum()), int(gone.sum())
    for other in list(_LAYERS):
        mask = other.weight_mask
        if other is layer or mask.shape != gone.shape or mask.device != gone.device:
            continue
        kept_there = (mask != 0) & gone
        allowed = int(kept_there.sum())
        if not allowed or (written & ~kept_there).any():
            continue
        if count * math.log(room / allowed) >= LEAST_SURPRISE:
            warn(layer)
            return


def warn_if_copied(layer: Any, values: Tensor) -> None:
    """Warn if the values of a layer that stores nothing else are those of one with another mask."""
    for other in () if layer.has_warned else list(_LAYERS):
        theirs = other._parameters.get(KEPT)
        if theirs is None or theirs is values or theirs.shape != values.shape:
            continue
        alike = theirs.device == values.device and torch.equal(theirs, values)
        if alike and other.places != layer.places:
            warn(layer)
            return


def warn_if_averaged(layer: Any, mask: Tensor) -> None:
    """Warn if a mask is the average of two that differ, as one taken of whole state_dicts is."""
    if mask.is_floating_point() and ((mask != 0) & (mask < 0.9999)).any():
        warn(layer)


def warn(layer: Any) -> None:
    """Say it once for each layer; Python shows equal warnings of one place once."""
    if not layer.has_warned:
        layer.has_warned = True
        warnings.warn(MESSAGE, stacklevel=2)


def can_be_seen(tensor: Tensor) -> bool:
    """Tell whether a tensor can be looked into: transforms and captured graphs forbid it.

    So does a fork: GNU's threads, which comparisons of large tensors ask for, are not copied.
    """
    return (
        os.getpid() == _PROCESS
        and torch._C._functorch.peek_interpreter_stack() is None
        and torch._C._len_torch_dispatch_stack() == 0
        and not tensor.is_meta
        and not (tensor.is_cuda and torch.cuda.is_current_stream_capturing())
    )
