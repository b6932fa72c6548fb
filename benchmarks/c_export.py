"""What one action costs, and how many bytes a policy takes: the C file, the runtime, ONNX Runtime.

    .venv/bin/python benchmarks/c_export.py [--rounds 20]

Policies of 17 observations and 6 actions: an MLP of two layers of 256 units and a SimBa of width
128 and one block, dense and with nine tenths removed, each weight by itself or in groups. The C
file is compiled by this machine's compiler (-O2, and -O3 -march=native) into a program that calls
it in a loop; the others are called from Python, ONNX Runtime with one thread. In every round each
contender has its turn. Microseconds are CPU time of the process, so that others on the machine
count little; the number is the median over the rounds. Bytes are the `text` that `size` counts of
the object file, code and constants, with the `bss` of its arrays beside it. It writes
benchmarks/results/c_export.json.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from kanbatsu.agents.ddpg import DDPG, DDPGConfig
from kanbatsu.deploy import export_policy, load
from kanbatsu.deploy.c_check import FLAGS
from kanbatsu.machine import machine_facts, versions
from kanbatsu.nn.config import CriticConfig, NetworkConfig
from kanbatsu.sparsity.count import count
from kanbatsu.types import Spec

RESULT = Path(__file__).parent / "results" / "c_export.json"
OBSERVATION, ACTION, CALLS = 17, 6, 2_000
NETWORKS = {
    "mlp 256x2": {"network": "mlp", "width": 256, "blocks": 2},
    "simba 128": {"network": "simba", "width": 128, "blocks": 1},
}
PRUNING: dict[str, dict[str, Any]] = {
    "dense": {},
    "element 0.9": {"sparsity": 0.9},
    "grouped 0.9": {"sparsity": 0.9, "pattern": "grouped"},
}
OPTIMISED = {"-O2": ("-O2",), "-O3 -march=native": ("-O3", "-march=native")}
LOOP = """
#include <stdio.h>
#include <time.h>
#include "policy.c"
int main(void) {
  static float observation[KANBATSU_OBSERVATION], action[KANBATSU_ACTION];
  struct timespec began, ended;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &began);
  for (int call = 0; call < CALLS; ++call) {
    observation[call % KANBATSU_OBSERVATION] = action[call % KANBATSU_ACTION];
    kanbatsu_act(observation, action);
  }
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ended);
  printf("%.6f", ((double)(ended.tv_sec - began.tv_sec) * 1e6
      + (double)(ended.tv_nsec - began.tv_nsec) / 1e3) / CALLS);
  return 0;
}
"""


def write(folder: Path, settings: dict[str, Any]) -> int:
    """Export an untrained policy in every form; return how many weights it keeps."""
    config = DDPGConfig(actor=NetworkConfig(**settings), critic=CriticConfig(width=8, blocks=1))
    agent = DDPG(Spec((OBSERVATION,), action_dim=ACTION, episode_length=None), config)
    state = agent.init(jax.random.key(0))
    export_policy(state.actor, state.normaliser, folder, low=-1.0, high=1.0, c=True, onnx=True)
    return int(count(state.actor).kept)


def compiled(folder: Path, scratch: Path, flags: tuple[str, ...]) -> Callable[[], float]:
    """Compile the C file into a loop, and return what runs it and returns microseconds."""
    program = scratch / f"loop{'-'.join(flags)}"
    (scratch / "loop.c").write_text(LOOP)
    words = ["cc", "-std=gnu99", f"-DCALLS={10 * CALLS}", f"-I{folder}", *flags, "loop.c"]
    subprocess.run([*words, "-o", str(program), "-lm"], cwd=scratch, check=True)
    return lambda: float(subprocess.run([program], capture_output=True, check=True).stdout)


def timed(act: Callable[[np.ndarray], Any]) -> Callable[[], float]:
    """Return what calls a policy on observations that change and returns microseconds."""
    observations = np.random.default_rng(0).normal(size=(64, OBSERVATION)).astype(np.float32)

    def once() -> float:
        began = time.process_time()
        for call in range(CALLS):
            act(observations[call % 64])
        return (time.process_time() - began) / CALLS * 1e6

    return once


def onnxruntime_of(folder: Path) -> Callable[[np.ndarray], Any]:
    """Return the ONNX model as a function, on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        folder / "policy.onnx", options, providers=["CPUExecutionProvider"]
    )
    return lambda observation: session.run(None, {"observation": observation[None]})


def bytes_of(folder: Path, scratch: Path) -> dict[str, int]:
    """Return what the object file takes, and the files of the other forms."""
    file = scratch / "policy.o"
    subprocess.run(["cc", *FLAGS, "-c", str(folder / "policy.c"), "-o", str(file)], check=True)
    numbers = subprocess.run(["size", file], capture_output=True, text=True, check=True).stdout
    text, data, bss = map(int, numbers.splitlines()[1].split()[:3])
    files = {name: (folder / name).stat().st_size for name in ("policy.safetensors", "policy.onnx")}
    return {"text": text, "data": data, "bss": bss, **files}


def measure(settings: dict[str, Any], rounds: int) -> dict[str, Any]:
    """Measure one policy in every form."""
    with tempfile.TemporaryDirectory() as place:
        folder, scratch = Path(place) / "policy", Path(place) / "scratch"
        scratch.mkdir()
        kept = write(folder, settings)
        contenders = {
            **{f"C {name}": compiled(folder, scratch, f) for name, f in OPTIMISED.items()},
            "runtime": timed(load(folder)),
            "onnxruntime": timed(onnxruntime_of(folder)),
        }
        times: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(rounds):
            for name, contender in contenders.items():
                times[name].append(contender())
        golden = load(folder).contract["golden"]
        return {
            "kept": kept,
            "bytes": bytes_of(folder, scratch),
            "microseconds": {name: round(statistics.median(x), 3) for name, x in times.items()},
            "least": {name: round(min(x), 3) for name, x in times.items()},
            "parity": {form: golden[f"{form}_parity_error"] for form in ("onnx", "c")},
        }


def main() -> None:
    """Measure, print a line for each policy, and write them all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    if shutil.which("cc") is None:
        raise SystemExit("this machine has no C compiler")
    load_before, rows = os.getloadavg()[0], {}
    for network, size in NETWORKS.items():
        for pruning, how in PRUNING.items():
            row = measure(size | how, arguments.rounds)
            rows[f"{network} {pruning}"] = row
            print(network, pruning, row)
    compiler = subprocess.run(["cc", "--version"], capture_output=True, text=True, check=True)
    record = {
        "rows": rows,
        "rounds": arguments.rounds,
        "load_before": load_before,
        "compiler": compiler.stdout.splitlines()[0],
        "machine": machine_facts(),
        "versions": versions(("kanbatsu", "numpy", "jax", "onnx", "onnxruntime")),
        "commit": subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip(),
    }
    RESULT.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
