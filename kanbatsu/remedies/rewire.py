"""Dynamic sparsity: which weights exist changes while a network trains."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from kanbatsu.remedies.choice import highest, removed_share, swapped
from kanbatsu.remedies.parts import (
    Part,
    is_masked,
    masked_weights,
    networks_in,
    remasked,
    unmasked,
)
from kanbatsu.sparsity.config import Distribution, Pruning
from kanbatsu.sparsity.fixed import unfixed
from kanbatsu.sparsity.prune import plan_as
from kanbatsu.tree import leaves_by_path
from kanbatsu.types import Key


def move_at_random(part: Part, share: float, key: Key) -> Part:
    """Take one step of SET: the smallest weights go, as many others begin, at random.

    Args:
        part: its masked weights move; what is dense stays.
        share: of each layer's kept weights.
        key: chooses.
    """
    weights = masked_weights(part.network)
    keys = jax.random.split(key, max(len(weights), 1))
    scores = [jax.random.uniform(k, w.mask.shape) for k, w in zip(keys, weights, strict=False)]
    return _moved(part, scores, jnp.float32(share))


def move_by_gradient(part: Part, gradient: Any, share: Float[Array, ""]) -> Part:
    """Take one step of RigL: the smallest weights go, those with the largest gradient begin.

    Args:
        part: its masked weights move; what is dense stays.
        gradient: of the loss in the network with its masks lifted (`unmasked`), by the same paths.
        share: of each layer's kept weights.
    """
    leaves = leaves_by_path(gradient)
    paths = [
        path
        for path, leaf in leaves_by_path(part.network, is_leaf=is_masked).items()
        if is_masked(leaf)
    ]
    return _moved(part, [jnp.abs(leaves[path]) for path in paths], share)


def _moved(part: Part, scores: list[Array], share: Float[Array, ""]) -> Part:
    weights = masked_weights(part.network)
    masks = [
        swapped(unfixed(weight.mask), jnp.abs(weight.value), score, share)
        for weight, score in zip(weights, scores, strict=True)
    ]
    return remasked(part, masks)


def prune_gradually(
    part: Part,
    sparsity: float,
    distribution: Distribution,
    begin: int,
    end: int,
    at: Int[Array, ""],
) -> Part:
    """Take one step of gradual magnitude pruning: the smallest weights of each layer go.

    Args:
        part: its masked weights, which keep everything at first.
        sparsity: at the end; each layer then keeps exactly what a static arm of that sparsity does.
        distribution: how the sparsity is spread over the layers.
        begin: env steps up to which all is kept.
        end: env steps from which the final sparsity holds.
        at: env steps so far.
    """
    gone = removed_share(begin, end, at)
    finals = final_counts(part.network, sparsity, distribution)
    masks = []
    for weight, final in zip(masked_weights(part.network), finals, strict=True):
        removed = jnp.round(gone * (weight.mask.size - final)).astype(jnp.int32)
        count = jnp.where(at >= end, final, weight.mask.size - removed)
        mask = unfixed(weight.mask)
        magnitude = jnp.where(mask, jnp.abs(weight.value), -jnp.inf)
        masks.append(highest(magnitude, count) & mask)
    return remasked(part, masks)


def final_counts(network: Any, sparsity: float, distribution: Distribution) -> list[int]:
    """Return what each masked weight keeps under a static mask of that sparsity.

    Args:
        network: one, or several in a tuple, each of which meets the sparsity alone.
        sparsity: share of the kernels' weights that is gone.
        distribution: how it is spread over the layers.

    Raises:
        ValueError: The sparsity cannot be met.
    """
    pruning = Pruning(sparsity, distribution)
    counts: list[int] = []
    for each in networks_in(network):
        kept = {x.path: x.kept for x in plan_as(unmasked(each), pruning).layers}
        masked = leaves_by_path(each, is_leaf=is_masked)
        counts += [kept[path] for path, leaf in masked.items() if is_masked(leaf)]
    return counts


def revive(part: Part, share: float, key: Key) -> Part:
    """Bring removed weights back, at random and for good; they begin at zero.

    Args:
        part: its masked weights get some back.
        share: of all that the masked layers keep. A layer's part of them is in proportion to what
            it has lost.
        key: chooses.
    """
    weights = masked_weights(part.network)
    keys = jax.random.split(key, max(len(weights), 1))
    kept = sum((w.mask.sum(dtype=jnp.int32) for w in weights), start=jnp.int32(0))
    lost = sum((w.mask.size for w in weights), start=0) - kept
    rate = share * kept.astype(jnp.float32) / jnp.maximum(lost, 1).astype(jnp.float32)
    masks = []
    for own, weight in zip(keys, weights, strict=False):
        missing = (~weight.mask).sum(dtype=jnp.int32)
        count = jnp.minimum(
            jnp.round(rate * missing.astype(jnp.float32)).astype(jnp.int32), missing
        )
        mask, score = unfixed(weight.mask), jax.random.uniform(own, weight.shape)
        masks.append(mask | highest(jnp.where(mask, -jnp.inf, score), count))
    return remasked(part, masks)


def kept_weights(network: Any) -> Int[Array, ""]:
    """Count the kept weights of the masked layers of a network, or of several."""
    masks = (weight.mask.sum(dtype=jnp.int32) for weight in masked_weights(network))
    return sum(masks, start=jnp.int32(0))
