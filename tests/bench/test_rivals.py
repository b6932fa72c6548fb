"""The landscape's numbers are those of the stored file, and its script runs."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def load(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tables = load("rival_tables")


def test_the_pages_numbers_are_those_of_the_stored_file():
    record = json.loads(tables.RESULTS.read_text())
    page = tables.PAGE.read_text()
    assert tables.with_tables(page, tables.tables_of(record)) == page
    assert {"commit", "machine", "load_before", "clock"} <= record.keys()
    assert all(set(run["dense GFLOP/s"]) == set(tables.DENSE) for run in record["runs"])


def test_a_table_takes_the_faster_dense_product_and_leaves_out_what_was_not_run():
    def row(ms, torch, xla):
        ratios = {"times as fast as dense torch": torch, "times as fast as dense xla": xla}
        return {"milliseconds": [ms] * 3, "bytes": 2048} | ratios

    ones, halves, twos = [1.0] * 3, [0.5] * 3, [2.0] * 3
    rows = {"dense torch": row(4.0, ones, halves), "dense xla": row(2.0, twos, ones)}
    run = {"layer": 8, "dense GFLOP/s": {"dense torch": 1.0, "dense xla": 2.0}}
    forward = run | {"phase": "forward", "rows": rows | {"csr": row(1.0, [4.0] * 3, [1, 2, 3])}}
    text = tables._speeds([forward, run | {"phase": "step", "rows": rows}]).splitlines()
    assert text[2] == ("| the faster dense | xla, 2 ms, 2 GFLOP/s | xla, 2 ms, 2 GFLOP/s |")
    assert text[-1] == "| csr | 2.00 (1.00 to 3.00) |  |"
    assert text[3] == "| dense torch | 0.50 (0.50 to 0.50) | 0.50 (0.50 to 0.50) |"


@pytest.mark.slow
def test_the_script_runs_on_a_tiny_grid(tmp_path):
    for package in ("torch", "onnx", "onnxruntime", "scipy", "flax"):
        pytest.importorskip(package)
    out = tmp_path / "rivals.json"
    settings = {"layers": 32, "sparsity": 0.5, "batches": 2, "threads": 1, "rounds": 1}
    grid = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-W", "ignore", str(ROOT / "benchmarks" / "rivals.py"), *grid]
    subprocess.run([*command, "--json-out", str(out)], check=True, capture_output=True)
    record = json.loads(out.read_text())
    assert [run["phase"] for run in record["runs"]] == ["forward", "backward", "step"]
    for run in record["runs"]:
        assert {"kanbatsu element", "kanbatsu flax grouped", "dense xla"} <= run["rows"].keys()
        assert all(row["milliseconds"][1] > 0 for row in run["rows"].values())
    assert "| the faster dense |" in tables.tables_of(record)
