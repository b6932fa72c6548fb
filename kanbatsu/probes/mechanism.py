"""Probes that look for a mechanism: dearer than those of health, and made only where asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kanbatsu.probes import interference as interfering
from kanbatsu.probes import plasticity as learning
from kanbatsu.probes import simplicity as waving
from kanbatsu.probes.rank import erank, stable_rank
from kanbatsu.probes.subject import Subject
from kanbatsu.sparsity.weight import is_pruned
from kanbatsu.types import Key

Mechanism = Literal["ranks", "plasticity", "interference", "simplicity", "overestimation"]
"""Names of the probes, as a schedule's `probes` lists them; docs/probes has a page of each."""
MECHANISMS: tuple[str, ...] = get_args(Mechanism)

Numbers = dict[str, Float[Array, ""]]


def ranks(subject: Subject) -> Numbers:
    """Effective and stable rank of the last features."""
    features, _ = subject.network.encode(*subject.inputs)
    return {"erank": erank(features), "stable_rank": stable_rank(features)}


def interference(subject: Subject) -> Numbers:
    """How the gradients of samples lie to one another: `kanbatsu.probes.interference`."""
    return interfering.interference(interfering.gradient_cosines(subject))


class First(NamedTuple):
    """A network at its first weights."""

    dense: Any
    pruned: Any
    """The same under the masks of the network that is measured."""


def plasticity(subject: Subject, first: First, key: Key) -> Numbers:
    """Fit of random targets, beside that of the first weights: `kanbatsu.probes.plasticity`."""
    return learning.plasticity(subject.network, first.pruned, subject.inputs, key)


def simplicity(subject: Subject, first: First, key: Key) -> Numbers:
    """Simplicity of a network at its first weights, as a ratio to the dense one.

    Args:
        subject: inputs of the shapes that the network takes; what they hold is not read.
        first: the network at its first weights.
        key: draws the circles.

    Returns:
        `simplicity`, the ratio (above 1: simpler than dense), and `simplicity_score`.
    """
    sizes = [x.size // len(x) for x in subject.inputs]
    joined = waving.circles(key, (sum(sizes),))
    parts = jnp.split(joined, [sum(sizes[: i + 1]) for i in range(len(sizes) - 1)], axis=-1)
    inputs = tuple(
        part.reshape(-1, *x.shape[1:]) for part, x in zip(parts, subject.inputs, strict=True)
    )
    score = waving.simplicity(first.pruned, inputs)
    dense = waving.simplicity(first.dense, inputs)
    return {"simplicity": score / dense, "simplicity_score": score}


class Measure(NamedTuple):
    """A probe of one network."""

    function: Callable[..., Numbers]
    samples: int | None
    """Samples of a batch that it looks at, at most; None for all."""
    wants_first: bool
    """Flag of a probe that is also given the network at its first weights, and a key."""


MEASURES: Mapping[str, Measure] = {
    "ranks": Measure(ranks, None, False),
    "plasticity": Measure(plasticity, learning.SAMPLES, True),
    "interference": Measure(interference, interfering.SAMPLES, False),
    "simplicity": Measure(simplicity, 1, True),
}
"""Probes of networks by name; that of overestimation plays, and stands in `kanbatsu.run`."""


def like(network: Any, first: Any, *, rescale: bool = False) -> Any:
    """Prune a dense network as another one is pruned.

    Args:
        network: a pruned network, or a dense one.
        first: dense, of the same shape.
        rescale: whether what survives is divided by the square root of its layer's density.

    Returns:
        What is pruned in the first is pruned in the second, stored and multiplied in the same way.

    Example:
        >>> from kanbatsu.sparsity.weight import Masked
        >>> pruned = {"w": Masked.of(jnp.ones(2), jnp.array([True, False]))}
        >>> like(pruned, {"w": jnp.array([5.0, 6.0])})["w"].value.tolist()
        [5.0, 0.0]
    """

    def thin(own: Any, new: Any) -> Any:
        if not is_pruned(own):
            return new
        return own.like(new * math.sqrt(own.size / own.kept) if rescale else new)

    return jax.tree.map(thin, network, first, is_leaf=is_pruned)


def measure(
    name: str, subjects: Mapping[str, Subject], first: Mapping[str, First], key: Key
) -> Numbers:
    """Measure every network of an agent by one of `MEASURES`.

    Args:
        name: name of the probe.
        subjects: the networks, on a batch of at most as many samples as the probe takes.
        first: the networks at their first weights, where the probe wants them, by name.
        key: decides what the probe draws.

    Returns:
        Numbers under `network/probe`.
    """
    probe, numbers = MEASURES[name], {}
    for network, subject in subjects.items():
        extra = (first[network], key) if probe.wants_first else ()
        for own, value in probe.function(subject, *extra).items():
            numbers[f"{network}/{own}"] = value
    return numbers
