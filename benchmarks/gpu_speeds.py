"""Speeds of a member's share of a GPU, for a plan of the paper's grid on GPUs.

    kanbatsu estimate studies/paper-grid.toml --workers 1 --json cpu.json ...
    python benchmarks/gpu_speeds.py cpu.json gpu.json
    kanbatsu estimate studies/paper-grid.toml --workers 8 --measured gpu.json

A worker is then a GPU with 16 cores, and a run takes what one member of a population that fills the
memory adds to it. Updates are those of `members.py` at the most members; DDPG's are taken to be as
long as SAC's, and cost less. Simulators are as measured beside that GPU: of five members in threads
for decisions, alone for evaluations. Probes and sizes are those of the CPU's file. Not in it:
copying batches to the device.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

HERE = Path(__file__).resolve().parent
DECISION, EVALUATED = 1.52e-3, 3.79e-3
"""Seconds of dog-stand beside the H100, in one run each: a decision of one of five members that
five threads simulate; and a decision of an evaluation, 3.56 ms to simulate and 0.23 to choose."""


@dataclass(frozen=True)
class Arguments:
    """Turn speeds of a CPU into those of a member's share of a GPU."""

    speeds: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="CPU.json")]
    """What kanbatsu estimate --json wrote."""
    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="GPU.json")]
    """Where the new ones go."""
    members: Path = HERE / "results" / "members.jsonl"
    """What members.py measured; its last line counts."""


def fullest(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the row of the most members of every size of SAC: `4M`, `17M`, `109M`."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        kind, _, size = row["name"].rpartition(" ")
        if kind == "sac update" and row["members"] >= found.get(size, row)["members"]:
            found[size] = row
    return found


def main(arguments: Arguments) -> None:
    """Read, replace, write."""
    at_most = fullest(json.loads(arguments.members.read_text().splitlines()[-1])["rows"])
    record = json.loads(arguments.speeds.read_text())
    for speed in record["speeds"]:
        row = at_most[speed["arm"].split("-")[1]]
        speed["update"] = 1e-6 * row["microseconds_per_member"]
        speed["start"] = row["compile_seconds"] / row["members"]
        speed["memory"] = int(row["bytes"] / row["members"])
        speed["interaction"], speed["decision"] = DECISION, EVALUATED
    arguments.out.write_text(json.dumps({"speeds": record["speeds"]}, indent=1) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Arguments))
