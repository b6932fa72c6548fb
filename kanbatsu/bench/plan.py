"""Which contenders race each other: dense beside every sparsity, pattern and way to compute."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple

from kanbatsu.bench.entrant import SIZES, Entrant
from kanbatsu.bench.race import Row
from kanbatsu.kernels.library import instruction_set
from kanbatsu.machine import machine_facts

LAYERS = ("3x512", "3x2048")
"""Plain networks of three square layers, for inference."""
RIVALS = ("numpy", "onnxruntime", "torch")


class BenchError(ValueError):
    """Something was asked for that cannot be measured."""


class Choice(NamedTuple):
    """Selection of what is measured beside dense."""

    sizes: Sequence[str] = (*SIZES, *LAYERS)
    """Names of networks."""
    sparsities: Sequence[float] = (0.5, 0.8, 0.9, 0.95)
    """Shares of the weights removed."""
    patterns: Sequence[str] = ("element", "grouped")
    """Which weights go."""
    computes: Sequence[str] = ("packed",)
    """Ways in which pruned weights are computed in updates."""
    only: Literal["update", "inference"] | None = None
    """Only one of the two."""


def plan(choice: Choice) -> list[list[Entrant]]:
    """Return the contenders of each race; dense comes first.

    Raises:
        BenchError: a size, pattern or way to compute is unknown, a sparsity lies outside (0, 1), or
            nothing is left to measure.

    Example:
        >>> from kanbatsu.bench.race import name_of
        >>> races = plan(Choice(["17M"], [0.9], ["grouped"], only="update"))
        >>> [[name_of(spec) for spec in race] for race in races]
        [['dense', 'grouped 0.9, packed']]
    """
    _refuse_unknown(choice.sizes, "size", (*SIZES, *LAYERS))
    _refuse_unknown(choice.patterns, "pattern", ("element", "grouped"))
    _refuse_unknown(choice.computes, "compute", ("packed", "masked"))
    if not all(0.0 < sparsity < 1.0 for sparsity in choice.sparsities):
        raise BenchError("sparsities lie between 0 and 1; dense is always measured beside them")
    races = list(_races(choice))
    if not races:
        sizes = ",".join(choice.sizes)
        raise BenchError(f"nothing to measure: {sizes} are layers, which have no update")
    return races


def _races(choice: Choice) -> Iterator[list[Entrant]]:
    for what in ("update", "inference"):
        if choice.only not in (None, what):
            continue
        updates = what == "update"
        for size in choice.sizes:
            if updates and size in LAYERS:
                continue
            sparse = [
                Entrant(what, size, sparsity, pattern, compute)
                for pattern in choice.patterns
                for sparsity in choice.sparsities
                for compute in (choice.computes if updates else ["packed"])
            ]
            rivals = () if updates else RIVALS
            dense = [Entrant(what, size, 0.0, "dense", name) for name in ("dense", *rivals)]
            yield [*dense, *sparse]


def _refuse_unknown(words: Sequence[str], kind: str, known: Sequence[str]) -> None:
    for word in words:
        if word not in known:
            raise BenchError(f"unknown {kind} {word!r}: choose from {', '.join(known)}")
    if not words:
        raise BenchError(f"name at least one {kind}: {', '.join(known)}")


def store(path: Path, rows: Sequence[Row]) -> None:
    """Write rows to a JSON file, each with the machine and the date."""
    machine = machine_facts() | {"instruction_set": instruction_set()}
    date = datetime.now(UTC).isoformat(timespec="seconds")
    records = [row.record() | {"machine": machine, "date": date} for row in rows]
    path.write_text(json.dumps(records, indent=1) + "\n")
