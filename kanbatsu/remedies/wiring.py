"""How units are wired: for each layer with an activation, what leads into its units and out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Float

from kanbatsu.nn.conv import Conv
from kanbatsu.nn.layers import Linear
from kanbatsu.nn.mlp import MLP
from kanbatsu.nn.normed import NormedNetwork
from kanbatsu.nn.simba import SimBa


class Wire(NamedTuple):
    """One layer of units. Functions are of the network, or of a tree of its form."""

    activations: str
    """Name of its activations."""
    into: Callable[[Any], Any]
    """The layer whose outputs the units are."""
    out: Callable[[Any], Sequence[Any]]
    """The layers whose inputs the units are."""
    norm: Callable[[Any], Any] | None = None
    """The normalisation between product and activation, where there is one."""


def wires(network: Any) -> list[Wire]:
    """List the layers of units of a network, from its input to its head.

    Raises:
        ValueError: Units of this network feed more than the next layer, as where layers add their
            outputs to their inputs; or its form is not known.

    Example:
        >>> from kanbatsu.nn.heads import ValueHead
        >>> from kanbatsu.nn.network import Network
        >>> simba = SimBa(3, width=8, blocks=2, key=jax.random.key(0))
        >>> network = Network(simba, ValueHead(8, key=jax.random.key(1)))
        >>> [wire.activations for wire in wires(network)]
        ['block0', 'block1']
    """
    if isinstance(network, NormedNetwork):
        return _normed(network)
    encoder = getattr(network, "encoder", None)
    if isinstance(encoder, SimBa):
        return [
            Wire(
                f"block{i}", _at("encoder", "blocks", i, "up"), _one("encoder", "blocks", i, "down")
            )
            for i in range(len(encoder.blocks))
        ]
    if isinstance(encoder, MLP) and not encoder.residual:
        return _plain(encoder)
    raise ValueError(
        "units of this network cannot be recycled: they feed more than the layer after them"
    )


def units_of(layer: Any, activations: Float[Array, "batch _"]) -> Float[Array, "samples units"]:
    """Return activations by unit: of a convolution, a unit is a channel at all its places."""
    return activations.reshape(-1, layer.bias.shape[-1])


def rows_of(layer: Any, units: Array) -> Array:
    """Repeat what belongs to units for each input of the layer after them.

    Args:
        layer: the layer after them.
        units: `[units]`; channels of a convolution are repeated for each of its places.
    """
    repeats = layer.weight.shape[0] // units.shape[0]
    return jax.numpy.tile(units, repeats)


def _plain(encoder: MLP) -> list[Wire]:
    last = len(encoder.layers) - 1

    def norm(i: int) -> Callable[[Any], Any] | None:
        return _at("encoder", "norms", i) if encoder.norms else None

    return [
        Wire(
            f"hidden{i}",
            _at("encoder", "layers", i),
            _heads if i == last else _one("encoder", "layers", i + 1),
            norm(i),
        )
        for i in range(last + 1)
    ]


def _normed(network: NormedNetwork) -> list[Wire]:
    last, first = len(network.layers) - 1, int(network.conv is not None)
    wired = [Wire("conv", _at("conv"), _one("layers", 0), _at("norms", 0))] if first else []
    return wired + [
        Wire(
            f"hidden{i}",
            _at("layers", i),
            _heads if i == last else _one("layers", i + 1),
            _at("norms", first + i),
        )
        for i in range(last + 1)
    ]


def _at(*path: str | int) -> Callable[[Any], Any]:
    """Return a function that follows a path of names and places."""

    def follow(tree: Any) -> Any:
        for step in path:
            tree = tree[step] if isinstance(step, int) else getattr(tree, step)
        return tree

    return follow


def _one(*path: str | int) -> Callable[[Any], Sequence[Any]]:
    follow = _at(*path)
    return lambda tree: [follow(tree)]


def _heads(tree: Any) -> Sequence[Any]:
    """Return the layers of a head."""
    layers = jax.tree.leaves(tree.head, is_leaf=lambda node: isinstance(node, Linear | Conv))
    return list(layers)
