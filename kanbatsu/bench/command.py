"""What `kanbatsu bench` is asked for, and what it prints and stores."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kanbatsu.bench.contender import SIZES, Spec
from kanbatsu.bench.race import Row, bare_product_gflops, name_of, run_race
from kanbatsu.kernels.library import instruction_set
from kanbatsu.machine import machine_facts

LAYERS = ("3x512", "3x2048")
"""Plain networks of three square layers, for inference."""
RIVALS = ("numpy", "onnxruntime", "torch")


class BenchError(ValueError):
    """Something was asked for that cannot be measured."""


@dataclass(frozen=True)
class BenchArguments:
    """Measure dense against sparse on this machine: whole SAC updates, and single actions."""

    sizes: str = ",".join((*SIZES, *LAYERS))
    """Which sizes, separated by commas: 4.4M, 17M, 109M (actor and critic on humanoid; inference
    is the actor's) and 3x512, 3x2048 (three square layers; inference only)."""
    sparsity: str = "0.5,0.8,0.9,0.95"
    """Shares of the weights removed, separated by commas."""
    patterns: str = "element,grouped"
    """Which weights go, separated by commas."""
    compute: str = "packed"
    """How pruned weights are computed in updates, separated by commas: packed, masked."""
    only: Literal["update", "inference"] | None = None
    """Only one of the two."""
    rounds: int = 7
    """Turns of every contender."""
    json: Path | None = None
    """A file for the rows, as a list of objects."""


def bench(asked: BenchArguments, console: Console) -> list[Row]:
    """Measure what was asked for, print it, store it.

    Raises:
        BenchError: for an unknown size or pattern, a sparsity outside (0, 1), less than one round,
            or if that leaves nothing to measure.
    """
    if asked.rounds < 1:
        raise BenchError(f"--rounds must be at least 1, not {asked.rounds}")
    races = list(plan(asked))
    if not races:
        raise BenchError(f"nothing to measure: {asked.sizes} are layers, which have no update")
    peak = bare_product_gflops()
    rows: list[Row] = []
    for specs in races:
        with console.status("") as status:
            found, absent = run_race(specs, asked.rounds, peak, status.update)
        rows += found
        console.print(table(found), fastest(found))
        for spec, reason in absent.items():
            console.print(f"  {escape(name_of(spec))}: {escape(reason)}", highlight=False)
    facts = machine_facts()
    console.print(
        f"\n{facts['cpu']}, {facts['cores']} cores, kernels: {instruction_set()}; "
        f"a bare dense product reaches {peak:.0f} GFLOP/s",
        highlight=False,
    )
    if asked.json is not None:
        machine = facts | {"instruction_set": instruction_set()}
        date = datetime.now(UTC).isoformat(timespec="seconds")
        records = [row.record() | {"machine": machine, "date": date} for row in rows]
        asked.json.write_text(json.dumps(records, indent=1) + "\n")
        console.print(f"rows: {escape(str(asked.json))}", highlight=False)
    return rows


def plan(asked: BenchArguments) -> Iterator[list[Spec]]:
    """Return the contenders of each race; dense comes first.

    Example:
        >>> asked = BenchArguments(sizes="17M", sparsity="0.9", patterns="grouped", only="update")
        >>> [[name_of(spec) for spec in race] for race in plan(asked)]
        [['dense', 'grouped 0.9, packed']]
    """
    sizes = _words(asked.sizes, "size", (*SIZES, *LAYERS))
    patterns = _words(asked.patterns, "pattern", ("element", "grouped"))
    computes = _words(asked.compute, "compute", ("packed", "masked"))
    try:
        sparsities = [float(word) for word in asked.sparsity.split(",")]
    except ValueError as error:
        raise BenchError(f"--sparsity takes numbers separated by commas: {error}") from None
    if not all(0.0 < sparsity < 1.0 for sparsity in sparsities):
        raise BenchError("sparsities lie between 0 and 1; dense is always measured beside them")
    for what in ("update", "inference"):
        if asked.only not in (None, what):
            continue
        for size in sizes:
            if what == "update" and size in LAYERS:
                continue
            sparse = [
                Spec(what, size, sparsity, pattern, compute)
                for pattern in patterns
                for sparsity in sparsities
                for compute in (computes if what == "update" else ["packed"])
            ]
            rivals = RIVALS if what == "inference" else ()
            yield [*(Spec(what, size, 0.0, "dense", name) for name in ("dense", *rivals)), *sparse]


def _words(text: str, kind: str, known: Sequence[str]) -> list[str]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    for word in words:
        if word not in known:
            raise BenchError(f"unknown {kind} {word!r}: choose from {', '.join(known)}")
    if not words:
        raise BenchError(f"name at least one {kind}: {', '.join(known)}")
    return words


def table(rows: Sequence[Row]) -> Table:
    """Lay out one race."""
    unit, scale = ("ms", 1.0) if rows[0].what == "update" else ("µs", 1e3)
    result = Table(title=f"{rows[0].what}, {rows[0].size}", box=SIMPLE, pad_edge=False)
    result.add_column(no_wrap=True)
    for heading in (unit, "x dense", "kept", "GFLOP/s", "state MiB", "peak MiB"):
        result.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        result.add_row(
            name_of(row.spec),
            f"{scale * row.milliseconds:.1f}",
            "" if row.ratio_to_dense is None else f"{row.ratio_to_dense:.2f}",
            f"{row.weights / 1e6:.2f}M",
            f"{row.gflops:.0f}",
            f"{row.state_bytes / 2**20:.1f}",
            f"{row.peak_resident_bytes / 2**20:.0f}",
        )
    return result


def fastest(rows: Sequence[Row]) -> str:
    """Name the fastest, whichever it is.

    Example:
        >>> fastest([])
        ''
    """
    if not rows:
        return ""
    return f"fastest: {name_of(min(rows, key=lambda row: row.milliseconds).spec)}"
