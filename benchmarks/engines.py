"""What engines cost: 24 tiny runs with one worker, with two, and on a Ray cluster of two nodes.

    python benchmarks/engines.py

Each run is a process of its own with a few hundred updates of networks of eight units, so nearly
all of its time is what every run pays: the start of Python, imports, compilation from the cache. A
line is added to results/engines.jsonl.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from faults import study
from rich.console import Console

from kanbatsu.engine.place import PlaceConfig
from kanbatsu.engine.progress import LineDisplay
from kanbatsu.engine.run_study import run_study
from kanbatsu.machine import machine_facts

HERE = Path(__file__).resolve().parent
RUNS = 24


def seconds(place: Path, config: PlaceConfig, runs: int = RUNS) -> float:
    """Carry the study out in a fresh folder, and return how long that took."""
    asked = replace(study(), tasks=("faults:quick",), seeds=tuple(range(runs // 2)))
    began = time.perf_counter()
    out = place / str(time.monotonic_ns())
    if not run_study(asked, out, config, "", LineDisplay(Console(quiet=True))):
        raise SystemExit(f"a run failed: see {out}")
    return time.perf_counter() - began


def main() -> None:
    """Measure, print, and store."""
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        # All three find every program compiled already.
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(place / "compiled")
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        seconds(place, PlaceConfig(workers=2), runs=2)
        found = {"one": seconds(place, PlaceConfig(workers=1))}
        found["two"] = seconds(place, PlaceConfig(workers=2))
        print(json.dumps(found), flush=True)
        began = time.perf_counter()
        head = {"num_cpus": 1, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        cluster.add_node(num_cpus=1)
        found["ray_start"] = time.perf_counter() - began
        found["ray"] = seconds(place, PlaceConfig(engine="ray", address=cluster.address))
        cluster.shutdown()
    found["scaling"] = found["one"] / found["two"]
    found["ray_overhead_per_run"] = (found["ray"] - found["two"]) * 2 / RUNS
    record = {
        "date": datetime.now(UTC).date().isoformat(),
        "runs": RUNS,
        "seconds": {name: round(value, 3) for name, value in found.items()},
        "machine": machine_facts(),
        "load_before": os.getloadavg()[0],
    }
    print(json.dumps(record["seconds"], indent=1))
    with (HERE / "results" / "engines.jsonl").open("a") as file:
        file.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
