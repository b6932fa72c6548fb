"""The parts of a training state: each network with its optimizer's state and its target."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import equinox as eqx
import jax

from kanbatsu.sparsity.weight import Masked, is_pruned

NETWORKS = ("actor", "critic", "classifier")
"""Names of parts that are networks; the temperature is none."""


class Part(NamedTuple):
    """One thing that trains, and what follows it."""

    network: Any
    """The network, or several of them in a tuple."""
    moments: Any
    """State of its optimizer, or its trace."""
    target: Any = None
    """Its target, if it has one."""


class _Place(NamedTuple):
    name: str
    network: str
    moments: str
    target: str | None = None


_PLACES = (
    _Place("actor", "actor", "actor_moments"),
    _Place("actor", "actor", "actor_trace"),
    _Place("critic", "critics", "critic_moments", "targets"),
    _Place("critic", "critic", "critic_trace"),
    _Place("critic", "critic", "moments"),
    _Place("classifier", "network", "moments"),
    _Place("temperature", "log_temperature", "temperature_moments"),
)
"""Fields of a state that belong together; those that a state has are its parts."""


class FirstWeights(NamedTuple):
    """State of the term that pulls towards the first weights: part of an optimizer's state."""

    weights: Any


class Norms(NamedTuple):
    """State of spectral normalisation, by the path of each matrix: part of an optimizer's state."""

    scales: dict[str, jax.Array]
    """Factor that leads from the weights that a network multiplies by to those that train."""
    vectors: dict[str, jax.Array]
    """Right singular vector of the largest singular value, as power iteration has found it."""
    bound: jax.Array
    """Largest singular value of what the network multiplies by."""


def trainable(tree: Any) -> Any:
    """Return the floating-point arrays of a tree; masks and structure become None."""
    return eqx.filter(tree, eqx.is_inexact_array)


def parts_of(state: Any) -> dict[str, Part]:
    """Take a training state apart.

    Args:
        state: of an agent, or of the bench of plasticity.

    Example:
        >>> import jax.numpy as jnp
        >>> class State(eqx.Module):
        ...     critic: jax.Array
        ...     moments: jax.Array
        >>> list(parts_of(State(jnp.ones(1), jnp.zeros(1))))
        ['critic']
    """
    return {
        place.name: Part(
            getattr(state, place.network),
            getattr(state, place.moments),
            getattr(state, place.target) if place.target else None,
        )
        for place in _places(state)
    }


def with_parts(state: Any, parts: dict[str, Part]) -> Any:
    """Put parts back into the state that they were taken from; what is no part stays."""
    changed: dict[str, Any] = {}
    for place in _places(state):
        part = parts[place.name]
        changed |= {place.network: part.network, place.moments: part.moments}
        changed |= {place.target: part.target} if place.target else {}
    return dataclasses.replace(state, **changed)


def _places(state: Any) -> Iterator[_Place]:
    for place in _PLACES:
        if hasattr(state, place.network) and hasattr(state, place.moments):
            yield place


def mirrored(
    moments: Any,
    network: Any,
    change: Callable[[Any], Any],
    first: Callable[[Any], Any] = lambda weights: weights,
) -> Any:
    """Change all that an optimizer keeps for every weight, such as both moments of Adam.

    Args:
        moments: state of the optimizer, or a trace.
        network: what it trains.
        change: called with each tree that has the form of the network's trainable part.
        first: called with the first weights, where the optimizer remembers them.

    Example:
        >>> import jax.numpy as jnp, optax
        >>> network = {"w": jnp.ones(2)}
        >>> adam = optax.adam(1.0).init(network)
        >>> ones = mirrored(adam, network, lambda tree: jax.tree.map(jnp.ones_like, tree))
        >>> ones[0].nu
        {'w': Array([1., 1.], dtype=float32)}
    """
    form: Any = jax.tree.structure(trainable(network))

    def is_whole(node: Any) -> bool:
        return isinstance(node, FirstWeights) or bool(form == jax.tree.structure(node))

    def put(node: Any) -> Any:
        if isinstance(node, FirstWeights):
            return FirstWeights(first(node.weights))
        return change(node) if form == jax.tree.structure(node) else node

    return jax.tree.map(put, moments, is_leaf=is_whole)


def is_masked(node: Any) -> bool:
    """Return True for a masked weight, where a node of a tree may be one."""
    return isinstance(node, Masked)


def masked_weights(tree: Any) -> list[Masked]:
    """Return the masked weights of a tree, in flatten order."""
    return [leaf for leaf in jax.tree.leaves(tree, is_leaf=is_masked) if is_masked(leaf)]


def remasked(part: Part, masks: list[jax.Array]) -> Part:
    """Move a part to other masks: weights, moments, first weights and target at once.

    What is newly kept begins at zero, with moments of zero; the target takes the mask over as it
    is, and is not averaged towards it.

    Args:
        part: a network with masked weights.
        masks: one for each of them, in flatten order.
    """

    def follow(tree: Any) -> Any:
        order = iter(masks)
        return jax.tree.map(
            lambda node: node.remasked(next(order)) if is_masked(node) else node,
            tree,
            is_leaf=is_masked,
        )

    return Part(
        follow(part.network),
        mirrored(part.moments, part.network, follow, follow),
        None if part.target is None else follow(part.target),
    )


def like(network: Any, dense: Any) -> Any:
    """Return dense weights pruned and stored as a network's are.

    Args:
        network: dense, masked or packed, kernel by kernel.
        dense: a network of the same shape without pruning.

    Example:
        >>> import jax.numpy as jnp
        >>> thin = Masked.of(jnp.ones(2), jnp.array([True, False]))
        >>> like({"w": thin}, {"w": jnp.full(2, 5.0)})["w"].value.tolist()
        [5.0, 0.0]
    """
    return jax.tree.map(
        lambda old, new: old.like(new) if is_pruned(old) else new, network, dense, is_leaf=is_pruned
    )


def unmasked(network: Any) -> Any:
    """Return a network with plain arrays in place of its masked weights, zeros included."""
    return jax.tree.map(
        lambda node: node.value if is_masked(node) else node, network, is_leaf=is_masked
    )


def networks_in(network: Any) -> tuple[Any, ...]:
    """Return the networks of a part, one or several."""
    return network if isinstance(network, tuple) else (network,)
