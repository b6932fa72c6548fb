"""Decides by a measurement how a pruned layer multiplies: by what it keeps, or as a dense one.

Which is faster depends on the machine, the batch, and how much is kept, so both are timed at the
first call of that size, once in a process, and the decision is kept. The two are one function up
to rounding; `compute="packed"` or `"masked"` pins one of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from kanbatsu.torch.kept_products import kept_linear
from kanbatsu.torch.places import Places

MOST_ROUNDS = 7
"""Turns of a measurement whose outcome is close."""
CLEAR = 1.5
"""Ratio of times after which one more turn would change nothing."""
_DECISIONS: dict[tuple[Any, ...], bool] = {}


def is_faster_packed(places: Places, rows: int, has_bias: bool) -> bool:
    """Tell whether kept values multiply faster than the dense weight that is built from them.

    Args:
        places: where the values belong.
        rows: number of samples; measured are so many, and it holds up to the next power of 2.
        has_bias: flag of a bias.
    """
    trains = torch.is_grad_enabled()
    size = (places.inputs, places.outputs, places.shape)
    key = (*size, (rows - 1).bit_length(), has_bias, trains, torch.get_num_threads())
    if key not in _DECISIONS:
        _DECISIONS[key] = _measure(places, rows, has_bias, trains)
    return _DECISIONS[key]


def _measure(places: Places, rows: int, has_bias: bool, trains: bool) -> bool:
    """Time one forward product, and what it passes back, of both."""
    options: Any = {"dtype": torch.float32, "device": "cpu", "requires_grad": trains}
    with torch.inference_mode(False), torch.set_grad_enabled(trains):
        x = torch.full((rows, places.inputs), 0.5, **options)
        values = torch.full(places.shape, 0.01, **options)
        bias = torch.zeros(places.outputs, **options) if has_bias else None
        dy = torch.full((rows, places.outputs), 0.1)
        ours = _timed(lambda: kept_linear(x, values, bias, places), dy)
        dense = _timed(lambda: functional.linear(x, places.dense(values), bias), dy)
        return _is_less(ours, dense)


def _timed(product: Callable[[], Tensor], dy: Tensor) -> Callable[[], float]:
    def seconds() -> float:
        started = time.perf_counter()
        y = product()
        if y.requires_grad:
            y.backward(dy)
        return time.perf_counter() - started

    seconds()
    return seconds


def _is_less(first: Callable[[], float], second: Callable[[], float]) -> bool:
    """Compare the least times over turns, as few as tell."""
    ours, theirs = first(), second()
    for _ in range(MOST_ROUNDS - 1):
        if max(ours, theirs) > CLEAR * min(ours, theirs):
            break
        ours, theirs = min(ours, first()), min(theirs, second())
    return ours < theirs
