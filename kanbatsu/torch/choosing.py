"""Decides by a measurement how a pruned layer multiplies: by what it keeps, or as a dense one.

Which is faster depends on the machine, the batch, and how much is kept, so both are timed at the
first call of that size, once in a process, and the decision is kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

LEAST = 1 << 12
"""Weights of a layer, before pruning, below which nothing is measured: it is multiplied as a dense
one, in the time that it takes to begin a product."""
MOST_TURNS = 7
"""Turns of a measurement whose outcome is close."""
CLEAR = 1.5
"""Ratio of times after which another turn would change nothing."""
Product = Callable[[Tensor], Tensor]
_DECISIONS: dict[tuple[Any, ...], bool] = {}


def is_faster_packed(
    layer: tuple[Any, ...], inputs: int, rows: int, products: Callable[[], tuple[Product, Product]]
) -> bool:
    """Tell whether a layer's product by kept values takes less time than its dense one.

    Args:
        layer: all that the times depend on beside the batch: sizes, kept values, storage.
        inputs: inputs of the layer.
        rows: number of samples; a decision holds up to the next power of 2.
        products: what makes both products, by kept values and dense, of parameters of their own.
    """
    trains = torch.is_grad_enabled()
    key = (*layer, (rows - 1).bit_length(), trains, torch.get_num_threads())
    if key not in _DECISIONS:
        with torch.inference_mode(False), torch.set_grad_enabled(trains):
            x = torch.full((rows, inputs), 0.5, dtype=torch.float32, device="cpu")
            turns = [_turn(product, x.requires_grad_(trains)) for product in products()]
            _DECISIONS[key] = _is_less(*turns)
    return _DECISIONS[key]


def _turn(product: Product, x: Tensor) -> Callable[[], float]:
    """Return what takes the seconds of a product, and of what it passes back."""
    # Of one thread its own time: others that are at work on this machine do not count.
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    dy = torch.full_like(product(x), 0.1, requires_grad=False)

    def seconds() -> float:
        started = clock()
        y = product(x)
        if y.requires_grad:
            y.backward(dy)
        return clock() - started

    seconds()
    return seconds


def _is_less(first: Callable[[], float], second: Callable[[], float]) -> bool:
    """Compare the least times over turns, as few as tell."""
    ours, theirs = first(), second()
    for _ in range(MOST_TURNS - 1):
        if max(ours, theirs) > CLEAR * min(ours, theirs):
            break
        ours, theirs = min(ours, first()), min(theirs, second())
    return ours < theirs
