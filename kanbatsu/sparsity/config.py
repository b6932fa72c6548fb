"""What pruning is, as one record: how much goes, which weights, and how the rest multiply.

Everything that prunes takes this record, and the networks' configurations are one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from kanbatsu.files.tables import ADDED
from kanbatsu.ranges import Natural

Distribution = Literal["uniform", "er", "erk"]
Pattern = Literal["element", "grouped", "channel", "bernoulli"]
Compute = Literal["auto", "masked", "mixed", "packed"]
DISTRIBUTIONS: tuple[str, ...] = get_args(Distribution)
IN_GROUPS = ("grouped", "channel")
"""Patterns in which neighbouring outputs share one list of inputs; they differ in convolutions."""
PATTERNS: tuple[str, ...] = get_args(Pattern)
COMPUTE: tuple[str, ...] = get_args(Compute)


@dataclass(frozen=True)
class Pruning:
    """Share of a network that is removed before training, and the form of the rest."""

    sparsity: float = 0.0
    """Share of the kernels' weights that is removed once, before training: 0 <= S < 1."""
    # How high it may be depends on the layers: `allocate` judges it.
    distribution: Distribution = "erk"
    """Rule by which the sparsity is spread over the layers."""
    pattern: Pattern = "element"
    """Which weights of a layer go: single elements, whole inputs for a group of outputs, the same
    with all places of a convolution's window at once (channel), or single elements with a count
    that varies (bernoulli, to mirror the paper's public code)."""
    group_size: Natural = 16
    """Neighbouring outputs that share one list of inputs; read by the patterns grouped and channel
    only."""
    compute: Compute = "auto"
    """Form in which pruned weights are stored and multiplied: masked (as dense ones), packed (kept
    values only), mixed (large and sparse layers packed, the others masked), or auto: mixed on a CPU
    with kernels, else masked. The same function either way."""
    rescale: bool = field(default=False, metadata=ADDED)
    """Flag of first weights that are divided by the square root of their layer's density, so that
    outputs scatter as those of the dense layer; the paper leaves them as they are."""


def pruning_of(
    sparsity: float,
    distribution: str = "erk",
    pattern: str = "element",
    group_size: int = 16,
    compute: str = "auto",
) -> Pruning:
    """Build the record from words that a caller may have mistyped.

    Raises:
        ValueError: for a word that there is not; the message lists those that there are.
    """
    check_choice("distribution", distribution, DISTRIBUTIONS)
    check_choice("pattern", pattern, PATTERNS)
    check_choice("compute", compute, COMPUTE)
    words: Any = (distribution, pattern, group_size, compute)
    return Pruning(sparsity, *words)


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Refuse a word that is none of the choices.

    Raises:
        ValueError: if it is none.
    """
    if value not in choices:
        raise ValueError(f"unknown {name} {value!r}: choose from {choices}")
