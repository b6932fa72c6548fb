"""A network under a probe: on which inputs, and with which loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxtyping import Array, Float


class Subject(NamedTuple):
    """One network of an agent, on one batch."""

    network: Any
    """A function of inputs to outputs, with `encode` to features and activations by layer."""
    inputs: tuple[Array, ...]
    """Arrays that the network is called with; the first axis counts samples."""
    loss: Callable[[Any], Float[Array, ""]]
    """Mean over the samples of what the network learns from, as a function of the network; what
    the network does not learn from (targets, other networks, noise) is fixed."""
