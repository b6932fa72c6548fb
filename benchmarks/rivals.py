"""One sparse layer beside its rivals: dense PyTorch and XLA, SparseLab, CSR, ONNX Runtime.

    python benchmarks/rivals.py --quick
    python benchmarks/rivals.py --layers 1024 2048 --sparsity 0.9 0.95 --batches 32 256

All contenders take turns in one process, one process for each number of threads; a ratio is taken
within a round, and its quartiles are over the rounds. `forward` has no gradients, `backward` is a
forward pass and the gradients of inputs, weights and bias, `step` is that and Adam. Contenders that
cannot do a phase are left out of it: `rival_layers.py` makes them. Memory is weights, a
gradient, Adam's two moments and the places of kept values, counted in bytes of arrays.

docs/landscape.md reads the file that this writes.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import tyro
from rival_layers import PHASES, Layer, contenders_of, limit_threads
from turns import take_turns

from kanbatsu.machine import machine_facts, usable_cores, versions

RIVALS = ("torch", "onnxruntime", "scipy", "sparselab", "flax", "equinox")
DENSE = ("dense torch", "dense xla")
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
TURN_SECONDS = 0.01
"""A turn takes about as long, so that a clock's and a call's own time count for little."""


@dataclass(frozen=True)
class Arguments:
    """Time layers of every contender in turn, print a table, write a file."""

    layers: tuple[int, ...] = (256, 512, 1024, 2048, 4096)
    """Inputs and outputs of the layers."""
    sparsity: tuple[float, ...] = (0.5, 0.8, 0.9, 0.95, 0.98)
    """Shares removed."""
    batches: tuple[int, ...] = (1, 32, 256)
    """Samples of a call."""
    threads: tuple[int, ...] = (1, 2)
    """Threads, and cores that the process may use."""
    clock: str = "wall"
    """What is counted: `wall` time, or, on a machine that others load, the `cpu` time of the
    process, whose other threads, if there are any, add up."""
    rounds: int = 11
    """How often each contender has its turn."""
    quick: bool = False
    """Layers of 256 and 1,024 at sparsity 0.9 with 1 and 256 samples, and 5 rounds."""
    json_out: Path = Path(__file__).parent / "results" / "rivals.json"
    """The file that is written."""


def main(arguments: Arguments) -> None:
    """Time, print, write."""
    if arguments.quick:
        arguments = replace(
            arguments, layers=(256, 1024), sparsity=(0.9,), batches=(1, 256), rounds=5, quick=False
        )
    if len(arguments.threads) > 1:
        records = [_in_a_process_of_its_own(arguments, threads) for threads in arguments.threads]
        runs = [run for record in records for run in record["runs"]]
        record = {**records[0], "runs": runs}
    else:
        record = _record(arguments)
    arguments.json_out.parent.mkdir(parents=True, exist_ok=True)
    arguments.json_out.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    print(f"written to {arguments.json_out}")


def _in_a_process_of_its_own(arguments: Arguments, threads: int) -> Any:
    part = arguments.json_out.with_suffix(f".{threads}.part")
    words = [
        *("--layers", *arguments.layers),
        *("--sparsity", *arguments.sparsity),
        *("--batches", *arguments.batches),
        *("--threads", threads),
        *("--clock", arguments.clock),
        *("--rounds", arguments.rounds),
        *("--json-out", part),
    ]
    subprocess.run([sys.executable, __file__, *map(str, words)], check=True)
    record = json.loads(part.read_text())
    part.unlink()
    return record


def _record(arguments: Arguments) -> dict[str, Any]:
    (threads,) = arguments.threads
    limit_threads(threads)
    load = os.getloadavg()[0]
    runs = []
    for size, sparsity, batch in itertools.product(
        arguments.layers, arguments.sparsity, arguments.batches
    ):
        layer = Layer(size, size, sparsity, batch)
        for phase in PHASES:
            run = {"threads": threads, "layer": size, "sparsity": sparsity, "batch": batch}
            runs.append(run | {"phase": phase} | _race(layer, phase, arguments))
            _print(runs[-1])
    facts = machine_facts()
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "machine": facts | {"versions": facts["versions"] | versions(RIVALS)},
        "load_before": load,
        "machine_cores": os.cpu_count(),
        "clock": arguments.clock,
        "rounds": arguments.rounds,
        "runs": runs,
    }


def _race(layer: Layer, phase: str, arguments: Arguments) -> dict[str, Any]:
    """Quartiles of milliseconds and of ratios to both dense ones, and bytes, by contender."""
    made = contenders_of(layer, phase)
    calls = {name: each.call for name, each in made.items()}
    clock = CLOCKS[arguments.clock]
    times = take_turns(calls, arguments.rounds, _calls(calls[DENSE[0]], clock), clock)
    rows: dict[str, Any] = {}
    for name, each in made.items():
        rows[name] = {"milliseconds": _quartiles(times[name]), "bytes": each.bytes}
        for dense in DENSE:
            ratios = [a / b for a, b in zip(times[dense], times[name], strict=True)]
            rows[name][f"times as fast as {dense}"] = _quartiles(ratios)
    products = 1 if phase == "forward" else 3
    work = products * 2 * layer.batch * layer.inputs * layer.outputs
    gflops = {name: work / 1e6 / rows[name]["milliseconds"][1] for name in DENSE}
    return {"rows": rows, "dense GFLOP/s": gflops}


def _calls(dense: Callable[[], object], clock: Callable[[], float]) -> int:
    """How many calls of the dense contender fill a turn."""
    dense()
    started = clock()
    dense()
    return max(1, min(100, round(TURN_SECONDS / (clock() - started))))


def _quartiles(values: list[float]) -> list[float]:
    if len(values) == 1:
        return values * 3
    return statistics.quantiles(values, n=4, method="inclusive")


def _commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _print(run: dict[str, Any]) -> None:
    what = f"{run['layer']} at {run['sparsity']}, batch {run['batch']}, {run['phase']}"
    print(f"{what}, {run['threads']} thread(s), of {len(usable_cores())} core(s)")
    for name, row in run["rows"].items():
        torch, xla = (row[f"times as fast as {dense}"][1] for dense in DENSE)
        print(f"  {name:>22} {row['milliseconds'][1]:9.3f} ms {torch:7.2f} {xla:7.2f}", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
