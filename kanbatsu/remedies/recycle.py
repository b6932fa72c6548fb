"""ReDo: dormant units are drawn anew at their inputs and begin silent at their outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from kanbatsu.remedies.parts import trainable
from kanbatsu.remedies.wiring import Wire, rows_of, units_of, wires
from kanbatsu.sparsity.weight import is_pruned, to_dense


class Recycled(NamedTuple):
    """Result of recycling in one network."""

    network: Any
    forget: Callable[[Any], Any]
    """Zeroes the moments of what was drawn anew or silenced, in a tree of the network's form."""
    begin: Callable[[Any], Any]
    """Takes the new weights over into a tree that remembers the first ones."""
    units: Int[Array, ""]
    """Units that were recycled."""
    cut_off: Int[Array, ""]
    """Units that a mask leaves without inputs: they count as nothing else."""


def recycle(
    network: Any, dense: Any, activations: Mapping[str, Float[Array, "batch _"]], threshold: float
) -> Recycled:
    r"""Recycle the dormant units of one network, layer by layer from its input.

    A unit is dormant whose mean activity is at most `threshold` times the mean over the units of
    its layer that have inputs. Its incoming weights are drawn anew, its bias (and its entry of a
    normalisation) begins again, its outgoing weights are 0, and so are all their moments. A weight
    between two recycled units is one of the incoming ones of the second.

    Where no normalisation stands between product and activation, a unit that never fired is
    recycled without a change of the network's function. Else the new product of a recycled unit
    shifts the mean that all units of its layer are normalised by.

    Args:
        network: as training left it.
        dense: the same network as it is drawn at the start, not pruned.
        activations: of the network on one batch, by layer.
        threshold: 0 for units that never fired.

    Raises:
        ValueError: The network's units cannot be recycled (see `kanbatsu.remedies.wiring.wires`).

    Reference:
        Sokar et al. 2023, "The Dormant Neuron Phenomenon in Deep Reinforcement Learning",
        algorithm 1.
    """
    stays = jax.tree.map(jnp.ones_like, trainable(network))
    recycled = cut_off = jnp.int32(0)
    for wire in wires(network):
        layer = wire.into(network)
        has_inputs = inputs_of(layer.weight) > 0
        fired = units_of(layer, activations[wire.activations])
        dormant = dormant_with_inputs(fired, has_inputs, threshold)
        network = _drawn_anew(network, dense, wire, dormant)
        stays = _forgotten(stays, network, wire, dormant)
        recycled += dormant.sum(dtype=jnp.int32)
        cut_off += (~has_inputs).sum(dtype=jnp.int32)

    def forget(tree: Any) -> Any:
        return jax.tree.map(lambda x, stay: jnp.where(stay > 0, x, jnp.zeros_like(x)), tree, stays)

    def begin(first: Any) -> Any:
        now = trainable(network)
        return jax.tree.map(lambda old, new, stay: jnp.where(stay > 0, old, new), first, now, stays)

    return Recycled(network, forget, begin, recycled, cut_off)


def dormant_with_inputs(
    activations: Float[Array, "samples units"], has_inputs: Bool[Array, " units"], threshold: float
) -> Bool[Array, " units"]:
    """Find dormant units among those that have inputs; others are in no mean.

    Example:
        >>> fired = jnp.array([[0.0, 1.0, 0.0]])
        >>> dormant_with_inputs(fired, jnp.array([True, True, False]), 0.1).tolist()
        [True, False, False]
    """
    score = jnp.abs(activations).mean(axis=0)
    mean = jnp.where(has_inputs, score, 0.0).sum() / jnp.maximum(
        has_inputs.astype(jnp.float32).sum(), 1.0
    )
    return has_inputs & (score <= threshold * mean)


def inputs_of(weight: Any) -> Float[Array, " outputs"]:
    """Count the inputs that each output of a kernel keeps.

    Example:
        >>> from kanbatsu.sparsity.weight import Masked
        >>> mask = jnp.array([[True, False], [True, False]])
        >>> inputs_of(Masked.of(jnp.ones((2, 2)), mask)).tolist()
        [2.0, 0.0]
    """
    ones = jnp.ones(weight.shape)
    ones = to_dense(weight.like(ones)) if is_pruned(weight) else ones
    return ones.sum(axis=tuple(range(ones.ndim - 1)))


def _drawn_anew(network: Any, dense: Any, wire: Wire, dormant: Array) -> Any:
    """Draw what leads into dormant units anew, and silence what leads out of them."""
    old, new = wire.into(network), wire.into(dense)
    layer = (_where(dormant, new.weight, old.weight), jnp.where(dormant, new.bias, old.bias))
    network = _with_layer(network, wire, layer)
    if wire.norm is not None:
        begun = jax.tree.map(partial(jnp.where, dormant), wire.norm(dense), wire.norm(network))
        network = eqx.tree_at(wire.norm, network, begun)
    outs = [
        _where(rows_of(out, dormant)[:, None], jnp.zeros(out.weight.shape), out.weight)
        for out in wire.out(network)
    ]
    return _with_outs(network, wire, outs)


def _forgotten(stays: Any, network: Any, wire: Wire, dormant: Array) -> Any:
    """Mark with 0 the moments of what was drawn anew or silenced."""
    keeps = 1.0 - dormant.astype(jnp.float32)

    def marked(weight: Any, mark: Any, keep: Array) -> Any:
        full = jnp.broadcast_to(keep, weight.shape)
        new = trainable(weight.like(full)) if is_pruned(weight) else full
        return jax.tree.map(jnp.multiply, mark, new)

    mark = wire.into(stays)
    layer = (marked(wire.into(network).weight, mark.weight, keeps), mark.bias * keeps)
    stays = _with_layer(stays, wire, layer)
    if wire.norm is not None:
        norm = jax.tree.map(lambda x: x * keeps, wire.norm(stays))
        stays = eqx.tree_at(wire.norm, stays, norm)
    outs = [
        marked(out.weight, old.weight, rows_of(out, keeps)[:, None])
        for out, old in zip(wire.out(network), wire.out(stays), strict=True)
    ]
    return _with_outs(stays, wire, outs)


def _where(condition: Array, new: Any, old: Any) -> Any:
    """Choose between dense values and a weight, which stays stored as it is."""
    mixed = jnp.where(condition, new, to_dense(old))
    return old.like(mixed) if is_pruned(old) else mixed


def _with_layer(tree: Any, wire: Wire, layer: tuple[Any, Any]) -> Any:
    """Put a weight and a bias into the layer that leads into units."""
    return eqx.tree_at(lambda t: (wire.into(t).weight, wire.into(t).bias), tree, layer)


def _with_outs(tree: Any, wire: Wire, weights: list[Any]) -> Any:
    """Put weights into the layers that lead out of units."""
    return eqx.tree_at(lambda t: [out.weight for out in wire.out(t)], tree, weights)
