"""Remedies that draw weights anew: resets, whole or of heads, and shrink and perturb."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from kanbatsu.remedies.choice import drawn
from kanbatsu.remedies.parts import (
    FirstWeights,
    Norms,
    Part,
    like,
    masked_weights,
    mirrored,
    remasked,
    trainable,
)
from kanbatsu.sparsity.fixed import unfixed
from kanbatsu.types import Key


def reset(part: Part, dense: Any) -> Part:
    """Draw a part anew: the network under the mask that it has, its optimizer, its target.

    Args:
        part: as training left it.
        dense: the same network as it is drawn at the start, not pruned.

    Returns:
        What initialising with the same draw and the same masks gives. The schedule of a learning
        rate goes on: it follows the run, not the network.
    """
    network = like(part.network, dense)
    target = None if part.target is None else like(part.target, dense)
    return Part(network, restarted(part.moments, network), target)


def reset_head(part: Part, dense: Any) -> Part:
    """Draw the head of a part anew, with zeros in its moments; all else goes on.

    Args: as for `reset`.
    """

    def headed(tree: Any, head_of: Any) -> Any:
        if isinstance(tree, tuple):
            return tuple(map(headed, tree, head_of))
        return eqx.tree_at(lambda each: each.head, tree, like(tree.head, head_of.head))

    def silenced(tree: Any) -> Any:
        if isinstance(tree, tuple):
            return tuple(map(silenced, tree))
        zeros = jax.tree.map(jnp.zeros_like, tree.head)
        return eqx.tree_at(lambda each: each.head, tree, zeros)

    network = headed(part.network, dense)

    def first(weights: Any) -> Any:
        new = trainable(network)
        return jax.tree.map(lambda at_head, a, b: a if at_head else b, _heads(new), new, weights)

    moments = mirrored(part.moments, part.network, silenced, first)
    target = None if part.target is None else headed(part.target, dense)
    return Part(network, moments, target)


def _heads(tree: Any) -> Any:
    """Mark the leaves that belong to a head."""
    if isinstance(tree, tuple):
        return tuple(map(_heads, tree))
    none = jax.tree.map(lambda leaf: False, tree)
    return eqx.tree_at(lambda each: each.head, none, jax.tree.map(lambda leaf: True, tree.head))


def with_new_masks(part: Part, key: Key) -> Part:
    """Draw the masks of a part anew; each layer keeps as many weights as it did."""
    weights = masked_weights(part.network)
    keys = jax.random.split(key, max(len(weights), 1))
    masks = [drawn(own, unfixed(weight.mask)) for own, weight in zip(keys, weights, strict=False)]
    return remasked(part, masks)


def shrink_perturb(part: Part, dense: Any, shrink: float, perturb: float) -> Part:
    r"""Move a part to $\lambda\theta + \sigma\phi$, where $\phi$ is drawn as at the start.

    Its target moves by the same draw, and its optimizer starts again.

    Args:
        part: as training left it.
        dense: the same network as it is drawn at the start, not pruned.
        shrink: $\lambda$.
        perturb: $\sigma$.
    """

    def moved(network: Any) -> Any:
        def mix(old: Any, new: Any) -> Any:
            return shrink * old + perturb * new if eqx.is_inexact_array(old) else old

        return jax.tree.map(mix, network, like(network, dense))

    target = None if part.target is None else moved(part.target)
    return Part(moved(part.network), restarted(part.moments), target)


def restarted(moments: Any, network: Any = None) -> Any:
    """Return an optimizer's state as it is before its first step.

    Args:
        moments: state of the optimizer, or a trace.
        network: what first weights are taken from, where the optimizer remembers any; None leaves
            those that it has.

    Example:
        >>> state = optax.adam(1.0).init(jnp.ones(2))
        >>> moved = jax.tree.map(lambda leaf: leaf + 1, state)
        >>> restarted(moved)[0].count, restarted(moved)[0].mu.tolist()
        (Array(0, dtype=int32), [0.0, 0.0])
    """
    kept = (FirstWeights, Norms, optax.ScaleByScheduleState)

    def put(node: Any) -> Any:
        if isinstance(node, FirstWeights) and network is not None:
            return FirstWeights(trainable(network))
        if isinstance(node, Norms):
            return node._replace(scales=jax.tree.map(jnp.ones_like, node.scales))
        return node if isinstance(node, kept) else jnp.zeros_like(node)

    return jax.tree.map(put, moments, is_leaf=lambda node: isinstance(node, kept))
