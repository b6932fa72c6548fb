"""The words about this machine: `kanbatsu bench` and `kanbatsu doctor`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kanbatsu.cli.parsing import parse
from kanbatsu.cli.saying import FAILED, USAGE, say_error

if TYPE_CHECKING:
    from kanbatsu.bench.plan import Choice
    from kanbatsu.bench.race import Row

MARKS = {"good": ("ok", "green"), "absent": ("absent", "yellow"), "broken": ("BROKEN", "bold red")}


@dataclass(frozen=True)
class BenchArguments:
    """Measure dense against sparse on this machine: whole SAC updates, and single actions."""

    sizes: str = "4.4M,17M,109M,3x512,3x2048"
    """Sizes to measure, separated by commas: 4.4M, 17M, 109M (actor and critic on humanoid;
    inference is the actor's) and 3x512, 3x2048 (three square layers; inference only)."""
    sparsity: str = "0.5,0.8,0.9,0.95"
    """Shares of the weights removed, separated by commas."""
    patterns: str = "element,grouped"
    """Patterns in which weights go, separated by commas."""
    compute: str = "packed"
    """Ways in which pruned weights are computed in updates, separated by commas: packed, masked."""
    only: Literal["update", "inference"] | None = None
    """One of the two to measure; both by default."""
    rounds: int = 7
    """Times that every form is measured."""
    json: Path | None = None
    """File to write the measurements to, as a list of objects."""


def bench(words: list[str]) -> int:
    """Measure what sparsity gains on this machine."""
    given = parse(BenchArguments, words, "kanbatsu bench")
    from kanbatsu.bench.plan import BenchError, plan

    try:
        if given.rounds < 1:
            raise BenchError(f"--rounds must be at least 1, not {given.rounds}")
        races = plan(choice(given))
    except BenchError as error:
        say_error(str(error))
        return USAGE
    measure(races, given.rounds, given.json, Console())
    return 0


def choice(given: BenchArguments) -> Choice:
    """Read the lists that are separated by commas.

    Raises:
        BenchError: a sparsity is no number.
    """
    from kanbatsu.bench.plan import BenchError, Choice

    sizes, patterns, computes = (
        [word.strip() for word in text.split(",") if word.strip()]
        for text in (given.sizes, given.patterns, given.compute)
    )
    try:
        sparsities = [float(word) for word in given.sparsity.split(",")]
    except ValueError as error:
        raise BenchError(f"--sparsity takes numbers separated by commas: {error}") from None
    return Choice(sizes, sparsities, patterns, computes, given.only)


def measure(
    races: Sequence[Sequence[Any]], rounds: int, file: Path | None, console: Console
) -> None:
    """Run races one after the other, and print and store what comes out."""
    from kanbatsu.bench import race
    from kanbatsu.bench.plan import store
    from kanbatsu.kernels.library import instruction_set
    from kanbatsu.machine import machine_facts

    peak = race.bare_product_gflops()
    rows: list[Row] = []
    for specs in races:
        with console.status("") as status:
            measured, absent = race.run_race(specs, rounds, peak, status.update)
        rows += measured
        console.print(table(measured), fastest(measured))
        for spec, reason in absent.items():
            console.print(f"  {escape(race.name_of(spec))}: {escape(reason)}", highlight=False)
    facts = machine_facts()
    console.print(
        f"\n{facts['cpu']}, {facts['cores']} cores, kernels: {instruction_set()}; "
        f"a bare dense product reaches {peak:.0f} GFLOP/s",
        highlight=False,
    )
    if file is not None:
        store(file, rows)
        console.print(f"rows: {escape(str(file))}", highlight=False)


def table(rows: Sequence[Row]) -> Table:
    """Lay out one race."""
    from kanbatsu.bench.race import name_of

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
    from kanbatsu.bench.race import name_of

    if not rows:
        return ""
    return f"fastest: {name_of(min(rows, key=lambda row: row.milliseconds).spec)}"


def doctor(words: list[str]) -> int:
    """Say what works on this machine."""
    from kanbatsu.doctor import examine, healthy

    facts = parse(examine, words, "kanbatsu doctor")
    console = Console(soft_wrap=True)
    section = ""
    for fact in facts:
        if fact.section != section:
            section = fact.section
            console.print(f"\n[bold]{section}[/bold]")
        mark, style = MARKS[fact.state]
        line = f"  [{style}]{mark:8}[/] {fact.name:22} {escape(fact.value)}"
        console.print(line, highlight=False)
        if fact.advice:
            console.print(f"  {'':8} {'':22} -> {escape(fact.advice)}", highlight=False)
    console.print(f"\n{'Nothing is broken.' if healthy(facts) else 'Something is broken.'}")
    return 0 if healthy(facts) else FAILED
