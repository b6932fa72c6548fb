"""A population against as many separate runs, from the command to the last file.

    python benchmarks/population.py                       # 8 members, on any device
    python benchmarks/population.py --members 64 --only "stream_q jax/cartpole"

A population is a study in one process and one program. It is compared with the same study by
workers that share compiled programs, as many as there are cores, and with each seed as a study of
its own, one command after the other. All start Python, compile, train, evaluate, probe and write.
A row is the seconds of each and their ratios, which are also the ratios per member. A line is added
to results/population.jsonl.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import tyro

HERE = Path(__file__).resolve().parent
SMALL = {"width": 32, "blocks": 1}
STUDIES: dict[str, dict[str, Any]] = {
    "stream_q jax/cartpole": {"agent": "stream_q", "tasks": ["jax/cartpole"], "env_steps": 50_000},
    "sac gym/Pendulum-v1": {
        "agent": "sac",
        "tasks": ["gym/Pendulum-v1"],
        "env_steps": 3_000,
        "actor": SMALL,
        "critic": {**SMALL, "sparsity": 0.5},
        "train": {"batch_size": 64, "warmup_interactions": 500, "replay_capacity": 3_000},
    },
}


@dataclass(frozen=True)
class Arguments:
    """Time a population, and the same runs one by one."""

    members: int = 8
    """Seeds."""
    only: tuple[str, ...] = tuple(STUDIES)
    """Which studies."""
    results: Path = HERE / "results" / "population.jsonl"
    """Where a line is added."""


CHILD = """
import json, sys
from pathlib import Path
from kanbatsu.study.file import study_from_dict
study, out = study_from_dict(json.loads(sys.argv[1])), Path(sys.argv[2])
population = "auto" if sys.argv[3] == "population" else None
from kanbatsu.engine.run_study import run_study
from kanbatsu.engine.place import PlaceConfig
sys.exit(not run_study(study, out, PlaceConfig(), "", population=population))
"""


def seconds(table: dict[str, Any], how: str) -> float:
    """Carry a study out in a fresh folder and process; return how long that took."""
    with tempfile.TemporaryDirectory() as place:
        began = time.perf_counter()
        words = [sys.executable, "-c", CHILD, json.dumps(table), str(Path(place) / "out"), how]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - began


def main(arguments: Arguments) -> None:
    """Measure, print, and store."""
    from kanbatsu.machine import machine_facts

    load, rows = os.getloadavg()[0], []
    for name in arguments.only:
        table = {"question": "?", "seeds": arguments.members, "arm": {"one": {}}, **STUDIES[name]}
        population, workers = seconds(table, "population"), seconds(table, "workers")
        each = [seconds(table | {"seeds": [seed]}, "workers") for seed in range(arguments.members)]
        row = {"name": name, "population": population, "workers": workers, "commands": sum(each)}
        for how in ("workers", "commands"):
            row[f"{how}_ratio"] = row[how] / population
        rows.append(row)
        print(json.dumps(rows[-1]), flush=True)
    record = {
        "date": datetime.now(UTC).date().isoformat(),
        "members": arguments.members,
        "rows": rows,
        "machine": machine_facts(),
        "load_before": load,
    }
    with arguments.results.open("a") as file:
        file.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Arguments))
