"""Remedies carried out: each when its time has come, on the parts of a training state."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from kanbatsu.remedies import fresh, rewire
from kanbatsu.remedies.choice import cosine_share
from kanbatsu.remedies.parts import NETWORKS, Part, masked_weights, mirrored, networks_in
from kanbatsu.remedies.records import (
    SET,
    TERMS,
    Gradual,
    ReDo,
    Remedy,
    Reset,
    Revive,
    RigL,
    ShrinkPerturb,
)
from kanbatsu.remedies.recycle import recycle
from kanbatsu.remedies.spectral import settled
from kanbatsu.types import Key

Parts = dict[str, Part]
Tally = dict[str, Int[Array, ""]]

TALLIES: Mapping[type[Any], tuple[str, ...]] = {
    Reset: ("times",),
    ShrinkPerturb: ("times",),
    ReDo: ("times", "recycled_units", "units_without_inputs"),
    SET: ("times", "moved_weights"),
    RigL: ("times", "moved_weights"),
    Gradual: ("times", "removed_weights"),
    Revive: ("times", "revived_weights"),
}
"""Counts that each remedy keeps, from the start of the run; of units without inputs, the latest."""

SHOCKS = (Reset, ShrinkPerturb, ReDo)
"""Remedies after which a network has to learn anew."""

LATEST = "units_without_inputs"


class Tools(NamedTuple):
    """Tools that remedies ask of whatever trains."""

    draw: Callable[[Key], Mapping[str, Any]]
    """Draws all parts as at the start, not pruned, by name."""
    activations: Callable[[Parts], Mapping[str, Sequence[Mapping[str, Array]]]] | None = None
    """Returns the activations of each network of each part on a batch."""
    gradients: Callable[[Parts], Mapping[str, Any]] | None = None
    """Returns the gradient of each part's loss on a batch, with its masks lifted."""


class Clock(NamedTuple):
    """Position of a run, in env steps."""

    before: Int[Any, ""]
    """Env steps when remedies were looked at last."""
    now: Int[Any, ""]
    """Env steps now."""
    total: int
    """Env steps of the whole run."""
    sees: Bool[Any, ""] | bool = True
    """Flag of as many samples at hand as remedies want to look at."""


def is_due(remedy: Remedy, clock: Clock) -> Bool[Array, ""]:
    """Say whether a moment of a remedy has come since remedies were looked at last.

    At the end of a run nothing is due but the last step of gradual pruning.

    Example:
        >>> clock = Clock(jnp.int32(15), jnp.int32(25), total=30)
        >>> bool(is_due(Reset(every=10), clock)), bool(is_due(Reset(every=30), clock))
        (True, False)
    """
    before, now, total, sees = clock
    if isinstance(remedy, Revive):
        return (before < remedy.at) & (now >= remedy.at)
    if isinstance(remedy, TERMS):
        return jnp.bool_(False)
    passed = now // remedy.every > before // remedy.every
    if isinstance(remedy, Gradual):
        ends = (before < remedy.end) & (now >= remedy.end)
        return (passed & (now > remedy.begin) & (now < remedy.end)) | ends
    if isinstance(remedy, SET | RigL):
        passed &= now <= int(remedy.until * total)
    return passed & (now < total) & (sees if isinstance(remedy, ReDo | RigL) else True)


def treat(
    remedies: Sequence[Remedy],
    parts: Parts,
    tools: Tools,
    clock: Clock,
    key: Key,
    shocks: bool,
) -> tuple[Parts, Tally]:
    """Carry out every remedy of one sort that is due, one after the other.

    What shocks a network (`SHOCKS`) waits for the next update and is carried out before it, so that
    whatever is measured at its moment is measured without it. What moves masks follows the update
    that reaches its moment, so that the masks of a moment are those that are counted there.

    Args:
        remedies: those that are terms of the learning rule are passed over.
        parts: a training state, taken apart.
        shocks: which sort: what shocks, or what moves masks.
        tools: what remedies ask for.
        clock: where the run stands.
        key: decides all that is random.

    Returns:
        The parts, and what was done, by `<kind>/<count>`; zeros where nothing was.
    """
    tally: Tally = {}
    for index, remedy in enumerate(remedies):
        if type(remedy) not in TALLIES or isinstance(remedy, SHOCKS) != shocks:
            continue
        names = TALLIES[type(remedy)]
        due = is_due(remedy, clock)
        own_key = jax.random.fold_in(key, index)

        def act(
            parts: Parts, remedy: Remedy = remedy, due: Array = due, own_key: Key = own_key
        ) -> tuple[Parts, tuple[Array, ...]]:
            new, counts = _act(remedy, parts, tools, clock, own_key)
            one = jnp.int32(1)
            return jax.tree.map(
                partial(jnp.where, due), (new, (one, *counts)), (parts, _zeros(1 + len(counts)))
            )

        def stay(parts: Parts, count: int = len(names)) -> tuple[Parts, tuple[Array, ...]]:
            return parts, _zeros(count)

        parts, counts = jax.lax.cond(agreed(due), act, stay, parts)
        tally |= {f"{remedy.kind}/{n}": x for n, x in zip(names, counts, strict=True)}
    return parts, tally


def empty_tally(remedies: Sequence[Remedy]) -> Tally:
    """Return the counts of remedies before anything was done."""
    return {
        f"{remedy.kind}/{name}": jnp.int32(0)
        for remedy in remedies
        for name in TALLIES.get(type(remedy), ())
    }


def added(tally: Tally, more: Tally) -> Tally:
    """Add what was done to what had been done before.

    Example:
        >>> old, new = ({"set/times": jnp.int32(n)} for n in (2, 1))
        >>> added(old, new)
        {'set/times': Array(3, dtype=int32)}
    """

    def add(name: str) -> Array:
        kind, _, count = name.partition("/")
        if count == LATEST:
            return jnp.where(more[f"{kind}/times"] > 0, more[name], tally[name])
        return tally[name] + more[name]

    return {name: add(name) if name in more else count for name, count in tally.items()}


@jax.custom_batching.custom_vmap
def agreed(due: Bool[Array, ""]) -> Bool[Array, ""]:
    """Return a condition as one number for all runs side by side, so that it remains a branch.

    Under `vmap` a branch on a number of each run would compute both of its sides, always.
    """
    return due


@agreed.def_vmap
def _any_of(size: int, is_batched: list[bool], due: Array) -> tuple[Array, bool]:
    return due.any(), False


def chosen(remedy: Any, parts: Mapping[str, Any]) -> list[str]:
    """Name the networks that a remedy is for."""
    return [name for name in parts if name in NETWORKS and remedy.of in ("all", name)]


def _act(
    remedy: Remedy, parts: Parts, tools: Tools, clock: Clock, key: Key
) -> tuple[Parts, tuple[Array, ...]]:
    """Carry out one remedy; returns the parts, and its counts after the first."""
    names = chosen(remedy, parts)
    keys = dict(zip(names, jax.random.split(key, len(names)), strict=True))
    if isinstance(remedy, Reset):
        return _reset(remedy, parts, tools, keys, key), ()
    if isinstance(remedy, ShrinkPerturb):
        dense, by = tools.draw(key), (remedy.shrink, remedy.perturb)
        moved = {n: fresh.shrink_perturb(parts[n], dense[n], *by) for n in names}
        return parts | {n: settled(part) for n, part in moved.items()}, ()
    if isinstance(remedy, ReDo):
        return _recycle(remedy, parts, tools, names, key)
    if isinstance(remedy, SET):
        new = {n: rewire.move_at_random(parts[n], remedy.share, keys[n]) for n in names}
    elif isinstance(remedy, RigL):
        assert tools.gradients is not None
        gradients = tools.gradients(parts)
        done = clock.now.astype(jnp.float32) / (remedy.until * clock.total)
        share = cosine_share(remedy.share, done)
        new = {n: rewire.move_by_gradient(parts[n], gradients[n], share) for n in names}
    elif isinstance(remedy, Gradual):
        by_time = partial(
            rewire.prune_gradually,
            sparsity=remedy.sparsity,
            distribution=remedy.distribution,
            begin=remedy.begin,
            end=remedy.end,
            at=clock.now,
        )
        new = {n: by_time(parts[n]) for n in names}
    else:
        assert isinstance(remedy, Revive)
        new = {n: rewire.revive(parts[n], remedy.share, keys[n]) for n in names}
    news = sum((_begun(parts[n], new[n]) for n in names), start=jnp.int32(0))
    gone = sum((_begun(new[n], parts[n]) for n in names), start=jnp.int32(0))
    return parts | new, (gone if isinstance(remedy, Gradual) else news,)


def _reset(remedy: Reset, parts: Parts, tools: Tools, keys: Mapping[str, Key], key: Key) -> Parts:
    """Draw networks anew, and with the whole of an actor the temperature."""
    dense = tools.draw(key)
    if remedy.part == "head":
        return parts | {n: fresh.reset_head(parts[n], dense[n]) for n in keys}
    if remedy.mask == "new":
        apart = {n: jax.random.fold_in(own, 1) for n, own in keys.items()}
        parts = parts | {n: fresh.with_new_masks(parts[n], own) for n, own in apart.items()}
    beside = ["temperature"] if "actor" in keys and "temperature" in parts else []
    return parts | {n: settled(fresh.reset(parts[n], dense[n])) for n in [*keys, *beside]}


def _recycle(
    remedy: ReDo, parts: Parts, tools: Tools, names: Sequence[str], key: Key
) -> tuple[Parts, tuple[Array, ...]]:
    """Recycle the units of every network of the parts that are named."""
    assert tools.activations is not None
    dense, activations = tools.draw(key), tools.activations(parts)
    recycled = cut_off = jnp.int32(0)
    for name in names:
        part = parts[name]
        several = isinstance(part.network, tuple)
        networks, moments = list(networks_in(part.network)), part.moments
        for at, network in enumerate(networks):
            new = networks_in(dense[name])[at]
            done = recycle(network, new, activations[name][at], remedy.threshold)
            networks[at] = done.network
            moments = mirrored(
                moments,
                part.network,
                _within(done.forget, at, several),
                _within(done.begin, at, several),
            )
            recycled, cut_off = recycled + done.units, cut_off + done.cut_off
        whole = tuple(networks) if several else networks[0]
        parts = parts | {name: Part(whole, moments, part.target)}
    return parts, (recycled, cut_off)


def _within(change: Callable[[Any], Any], at: int, several: bool) -> Callable[[Any], Any]:
    """Lift a change of one network's tree to the tree of several."""
    if not several:
        return change
    return lambda trees: (*trees[:at], change(trees[at]), *trees[at + 1 :])


def _begun(old: Part, new: Part) -> Int[Array, ""]:
    """Count the weights that exist in one part and did not in the other."""
    pairs = zip(masked_weights(old.network), masked_weights(new.network), strict=True)
    counts = ((b.mask & ~a.mask).sum(dtype=jnp.int32) for a, b in pairs)
    return sum(counts, start=jnp.int32(0))


def _zeros(count: int) -> tuple[Array, ...]:
    return tuple(jnp.int32(0) for _ in range(count))
