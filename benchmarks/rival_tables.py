"""Writes the tables of docs/landscape.md from what rivals.py stored.

python benchmarks/rival_tables.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "rivals.json"
PAGE = Path(__file__).parents[1] / "docs" / "landscape.md"
BEGIN, END = "<!-- tables of benchmarks/rival_tables.py -->", "<!-- end of tables -->"
DENSE = ("dense torch", "dense xla")
Run = dict[str, Any]


def tables_of(record: dict[str, Any]) -> str:
    """Return the tables in Markdown, with the machine that they are of."""
    machine, packages = record["machine"], record["machine"]["versions"]
    names = ("jax", "torch", "flax", "onnxruntime", "scipy", "sparselab")
    known = ", ".join(f"{name} {packages[name]}" for name in names if name in packages)
    kind = "CPU time of the process" if record["clock"] == "cpu" else "time"
    text = [
        f"{machine['cpu']}, {record['machine_cores']} cores; {known}; commit {record['commit']}, "
        f"{record['date'][:10]}, load {record['load_before']:.0f} when it began; {kind}, "
        f"{record['rounds']} rounds."
    ]
    keys = sorted({(r["threads"], r["sparsity"], r["batch"]) for r in record["runs"]})
    for threads, sparsity, batch in keys:
        runs = [
            r
            for r in record["runs"]
            if (r["threads"], r["sparsity"], r["batch"]) == (threads, sparsity, batch)
        ]
        title = f"Sparsity {sparsity}, batch {batch}, {threads} thread{'s' * (threads > 1)}:"
        text += [title, _speeds(runs)]
    text += ["Bytes held in training, in KiB:", _memory(record["runs"])]
    return "\n\n".join(text)


def _speeds(runs: list[Run]) -> str:
    """How many times as fast as the faster dense product, by contender."""
    head = [f"{r['layer']}, {r['phase']}" for r in runs]
    fastest = [min(DENSE, key=lambda d, r=r: r["rows"][d]["milliseconds"][1]) for r in runs]
    dense = [
        f"{name.split()[1]}, {r['rows'][name]['milliseconds'][1]:.3g} ms, "
        f"{r['dense GFLOP/s'][name]:.3g} GFLOP/s"
        for name, r in zip(fastest, runs, strict=True)
    ]
    rows = [["the faster dense", *dense]]
    for name in dict.fromkeys(name for r in runs for name in r["rows"]):
        cells = [_cell(r["rows"].get(name), base) for r, base in zip(runs, fastest, strict=True)]
        rows.append([name, *cells])
    return _table(["", *head], rows)


def _cell(row: dict[str, Any] | None, dense: str) -> str:
    """Median and quartiles of a contender's ratio."""
    if row is None:
        return ""
    low, median, high = row[f"times as fast as {dense}"]
    return f"{median:.2f} ({low:.2f} to {high:.2f})"


def _memory(runs: list[Run]) -> str:
    """Bytes by contender and layer: the same at every batch and for any number of threads."""
    layers = sorted({r["layer"] for r in runs})
    held: dict[str, dict[int, int]] = {}
    for run in runs:
        for name, row in run["rows"].items():
            held.setdefault(name, {})[run["layer"]] = row["bytes"]
    rows = [[name, *(f"{of[layer] / 1024:,.0f}" for layer in layers)] for name, of in held.items()]
    return _table(["", *(f"{layer} x {layer}" for layer in layers)], rows)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---", *(["---:"] * (len(head) - 1))], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def with_tables(page: str, tables: str) -> str:
    """Return a page with other tables between its marks."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n\n{tables}\n\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(), tables_of(json.loads(RESULTS.read_text()))))
