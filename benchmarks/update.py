"""Milliseconds per SAC update: dense and masked, and beside Stable-Baselines3 and SBX.

    make bench                                         # with the rivals
    python benchmarks/update.py --only mlp --rounds 5  # a part of it, with what is installed

benchmarks/README.md says what is counted, and how the contenders are kept comparable.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import tyro
from contenders import (
    BATCH,
    CONTENDERS,
    CORES,
    RATIOS,
    SPARSITY,
    UPDATES_PER_CALL,
    Contender,
)
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from kanbatsu.machine import machine_facts, versions

HERE = Path(__file__).parent
WARM_UP_CALLS = 3
RIVALS = ("torch", "stable-baselines3", "sbx-rl", "flax")


@dataclass(frozen=True)
class Arguments:
    """Time SAC updates of all contenders in turn, print a table, append a line to a file."""

    rounds: int = 20
    """How often each contender has its turn."""
    calls: int = 3
    """Timed calls per turn, after one that is not timed."""
    only: tuple[str, ...] = ()
    """Time only contenders whose name contains one of these words."""
    json_out: Path = HERE / "results" / "update.jsonl"
    """The file that the line goes to."""


@dataclass(frozen=True)
class Row:
    """What one contender took."""

    milliseconds: float
    """Median per update, or per product, over all timed calls."""
    quartiles: tuple[float, float]
    """Of the same."""
    compile_seconds: float
    """What the first calls took beyond the median."""
    operations: int
    """Floating-point operations per update, or per product."""
    gflops: float
    """Billions of them per second, at the median."""
    parameters: int | None
    """Numbers that are trained, pruned ones included."""


def main(arguments: Arguments) -> None:
    """Time, print, append."""
    console = Console()
    load = os.getloadavg()[0]
    contenders, missing = gather(arguments.only)
    if not contenders:
        raise SystemExit(f"nothing to time: the names are {', '.join(CONTENDERS)}")
    rows, times = time_all(contenders, arguments.rounds, arguments.calls)
    ratios = compare(times)

    console.print(table(rows))
    for name, module in missing.items():
        console.print(f"{name}: not installed (no module {module}); `make bench` installs it")
    for pair, ratio in ratios.items():
        console.print(f"{pair}  [bold]{ratio:.3f}")
    console.print(f"load of the machine before: {load:.1f}")

    facts = machine_facts()
    record = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": facts | {"versions": facts["versions"] | versions(RIVALS)},
        "load_before": load,
        "rounds": arguments.rounds,
        "calls": arguments.calls,
        "updates_per_call": UPDATES_PER_CALL,
        "batch": BATCH,
        "threads": CORES,
        "sparsity_of_masked": SPARSITY,
        "rows": {name: asdict(row) for name, row in rows.items()},
        "ratios": ratios,
        "not_installed": sorted(missing),
    }
    arguments.json_out.parent.mkdir(parents=True, exist_ok=True)
    with arguments.json_out.open("a") as file:
        file.write(json.dumps(record, sort_keys=True) + "\n")
    console.print(f"appended to {arguments.json_out}")


def gather(only: tuple[str, ...]) -> tuple[dict[str, Contender], dict[str, str]]:
    """Make the contenders that were asked for.

    Returns:
        The contenders by name, and for each that cannot be made the module that is not installed.
    """
    contenders, missing = {}, {}
    for name, make in CONTENDERS.items():
        if only and not any(word in name for word in only):
            continue
        try:
            contenders[name] = make()
        except ModuleNotFoundError as error:
            missing[name] = str(error.name)
    return contenders, missing


def time_all(
    contenders: Mapping[str, Contender], rounds: int, calls: int
) -> tuple[dict[str, Row], dict[str, np.ndarray]]:
    """Give every contender a turn in every round, so that all meet the same noise.

    Returns:
        The rows, and the milliseconds per unit `[rounds, calls]`, by name.
    """
    first = {
        name: [time_call(contender) for _ in range(WARM_UP_CALLS)]
        for name, contender in contenders.items()
    }
    times = {name: np.empty((rounds, calls)) for name in contenders}
    rng = np.random.default_rng(0)
    for turn in range(rounds):
        for name in rng.permutation(list(contenders)):
            time_call(contenders[name])  # brings its data back into the caches
            times[name][turn] = [time_call(contenders[name]) for _ in range(calls)]
    rows = {}
    for name, contender in contenders.items():
        low, median, high = np.quantile(times[name], (0.25, 0.5, 0.75)).tolist()
        beyond = (sum(first[name]) - WARM_UP_CALLS * median) * contender.units
        rows[name] = Row(
            milliseconds=median,
            quartiles=(low, high),
            compile_seconds=max(0.0, beyond / 1e3),
            operations=contender.operations,
            gflops=contender.operations / median / 1e6,
            parameters=contender.parameters,
        )
    return rows, times


def time_call(contender: Contender) -> float:
    """Return the milliseconds per unit of one call."""
    started = time.perf_counter()
    contender.call()
    return 1e3 * (time.perf_counter() - started) / contender.units


def compare(times: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Median over the rounds of the ratio within a round: drift of the machine cancels."""
    per_round = {name: np.median(values, axis=1) for name, values in times.items()}
    return {
        f"{one} : {other}": float(np.median(per_round[one] / per_round[other]))
        for one, other in RATIOS
        if one in per_round and other in per_round
    }


def table(rows: Mapping[str, Row]) -> Table:
    """Lay out the rows."""
    title = f"SAC, batch {BATCH}, {UPDATES_PER_CALL} updates per call, {CORES} threads"
    result = Table(title=title, box=SIMPLE, pad_edge=False)
    result.add_column(no_wrap=True)
    for heading in ("ms", "quartiles", "weights", "GFLOP", "GFLOP/s", "compile"):
        result.add_column(heading, justify="right", no_wrap=True)
    for name, row in rows.items():
        result.add_row(
            name,
            f"{row.milliseconds:.1f}",
            "{:.1f}-{:.1f}".format(*row.quartiles),
            "" if row.parameters is None else f"{row.parameters / 1e6:.2f}M",
            f"{row.operations / 1e9:.2f}",
            f"{row.gflops:.0f}",
            f"{row.compile_seconds:.0f} s",
        )
    return result


def commit() -> str:
    """Return the commit that is checked out, marked `-dirty` where files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


if __name__ == "__main__":
    main(tyro.cli(Arguments))
