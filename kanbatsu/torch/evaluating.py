"""Modules as they compute in evaluation, for a moment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """Compute as in evaluation: no dropout, no gradients, no step of anybody's random numbers.

    Args:
        *modules: what computes; each part of them is in its own mode again afterwards.
    """
    training = {part: part.training for module in modules for part in module.modules()}
    places = {x.device for module in modules for x in module.parameters()}
    devices = [place for place in places if place.type == "cuda"]
    for module in modules:
        module.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices):
            yield
    finally:
        for part, was in training.items():
            part.training = was
