"""Remedies that cannot work are refused by name, before anything trains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from kanbatsu.remedies.parts import NETWORKS
from kanbatsu.remedies.records import (
    MASKS,
    SET,
    TERMS,
    Gradual,
    ReDo,
    Remedy,
    Reset,
    Revive,
    RigL,
    changes_masks,
    needs_whole_matrices,
)
from kanbatsu.sparsity.config import Pruning


def check_remedies(
    remedies: Sequence[Remedy],
    networks: Mapping[str, Pruning],
    total: int,
    who: str,
    streams: bool = False,
) -> None:
    """Refuse remedies that a run cannot have.

    Args:
        remedies: of the run.
        networks: pruning of each network, by name.
        total: env steps of the run.
        who: name of what learns, for messages.
        streams: whether it learns from every sample once, without batch and optimizer.

    Raises:
        ValueError: One line per mistake, with the remedy's name.

    Example:
        >>> check_remedies((RigL(every=5),), {"critic": Pruning()}, total=10, who="pqn")
        Traceback (most recent call last):
        ...
        ValueError: remedy rigl moves the masks of sparse networks, and critic is dense: give it a \
sparsity, or take gradual, which begins dense
    """
    strange = [name for name in networks if name not in NETWORKS]
    if remedies and strange:
        raise ValueError(
            f"remedies know actors and critics, and {who} also has {', '.join(strange)}: remove "
            "the remedies, or take another agent"
        )
    problems = [
        f"remedy {remedy.kind} {problem}"
        for remedy in remedies
        for problem in (
            *_of_time(remedy, total),
            *_of_agent(remedy, who, streams),
            *_of_networks(remedy, networks, who),
        )
    ]
    moving = [remedy.kind for remedy in remedies if isinstance(remedy, MASKS)]
    if len(moving) > 1:
        problems.append(f"remedy {moving[1]} changes masks, and so does {moving[0]}: take one")
    if problems:
        raise ValueError("\n".join(problems))


def within(remedies: Sequence[Remedy], total: int) -> tuple[Remedy, ...]:
    """Return remedies for a shorter run, in which those that would come too late act at its end.

    Args:
        remedies: of a run that they fit.
        total: env steps of the shorter one.

    Example:
        >>> within((Revive(at=500, share=0.1), RigL(every=5)), 100)[0].at
        99
    """

    def fitted(remedy: Any) -> Remedy:
        last = total - 1
        if isinstance(remedy, SET | RigL):
            last = min(last, int(remedy.until * total))
        moments = {
            name: min(x, last) for name in ("every", "at") if (x := getattr(remedy, name, 0))
        }
        if isinstance(remedy, Gradual):
            moments |= {"end": min(remedy.end, total), "begin": min(remedy.begin, last)}
        shorter: Remedy = replace(remedy, **moments)
        return shorter

    return tuple(map(fitted, remedies))


def _of_time(remedy: Any, total: int) -> Iterator[str]:
    for name in ("every", "at"):
        moment = getattr(remedy, name, None)
        if moment is not None and moment >= total:
            yield (
                f"would never act: {name} = {moment:,} env steps, and the run has {total:,}; "
                "take fewer"
            )
    if isinstance(remedy, Gradual):
        if remedy.begin >= remedy.end:
            yield f"must begin before it ends: begin = {remedy.begin:,}, end = {remedy.end:,}"
        if remedy.end > total:
            yield (
                f"would not be done: end = {remedy.end:,} env steps, and the run has {total:,}; "
                "take fewer"
            )
        if not 0.0 < remedy.sparsity < 1.0:
            yield f"needs a sparsity above 0 and below 1: got {remedy.sparsity}"
    if isinstance(remedy, SET | RigL) and remedy.every > remedy.until * total:
        yield (
            f"would never act: every = {remedy.every:,} env steps, and its masks stay after "
            f"{remedy.until:g} of {total:,}"
        )


def _of_agent(remedy: Remedy, who: str, streams: bool) -> Iterator[str]:
    if streams and isinstance(remedy, ReDo | RigL):
        yield f"looks at a batch, and {who} learns from every sample once, without one"
    if streams and isinstance(remedy, TERMS):
        yield f"is a term of an optimizer's step, and {who} learns by bounded steps along a trace"


def _of_networks(remedy: Any, networks: Mapping[str, Pruning], who: str) -> Iterator[str]:
    of = getattr(remedy, "of", "all")
    if of != "all" and of not in networks:
        yield f"is for the {of}, which {who} has not; its networks: {', '.join(networks)}"
        return
    own = {name: pruning for name, pruning in networks.items() if of in ("all", name)}
    sparse = {name: pruning for name, pruning in own.items() if pruning.sparsity > 0}
    if isinstance(remedy, SET | RigL | Revive) and not sparse:
        yield (
            f"moves the masks of sparse networks, and {' and '.join(own)} "
            f"{'is' if len(own) == 1 else 'are'} dense: give {'it' if len(own) == 1 else 'one'} a "
            "sparsity, or take gradual, which begins dense"
        )
    if isinstance(remedy, Gradual) and sparse:
        yield (
            f"begins dense, and {next(iter(sparse))} has a sparsity: leave the network's at 0, and "
            "name the one to reach here"
        )
    if isinstance(remedy, Reset) and remedy.mask == "new":
        if not sparse:
            yield f'has mask = "new", and {" and ".join(own)} has no mask: give a sparsity'
        if remedy.part == "head":
            yield 'has mask = "new" and part = "head": a new mask needs the whole network'
    moves = changes_masks((remedy,))
    for name, pruning in sparse.items():
        if moves and pruning.pattern != "element":
            yield f'needs {name}.pattern = "element": masks change weight by weight'
    needs = "changes masks, which packed weights cannot follow"
    if not moves:
        needs = "divides whole matrices, and packed weights are none"
    for name, pruning in (networks if moves else own).items():
        if needs_whole_matrices((remedy,)) and pruning.compute in ("packed", "mixed"):
            yield f'{needs}: set {name}.compute = "masked" or leave it at auto'
