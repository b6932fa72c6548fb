"""What survives a fault: workers, drivers and Ray nodes are killed, and clocks jump, in a study.

    python benchmarks/faults.py                                   # 20 of each kind
    python benchmarks/faults.py --repetitions 2 --kinds worker

A repetition takes a study of 12 tiny runs at a random moment: 7 to 10 of them are finished already,
which saves time, and the others are trained while, up to three times, something is killed with
SIGKILL, or the clock jumps by days (`clock.c`, preloaded). Afterwards the same command completes
the study, and every file of results is compared, byte for byte, with those of a study that nothing
happened to. The row goes to results/faults.jsonl.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import psutil
import tyro

from kanbatsu.envs.probe import ProbeEnvironment
from kanbatsu.envs.spec import Timestep
from kanbatsu.machine import machine_facts

HERE = Path(__file__).resolve().parent
STEP_SECONDS = 0.005
"""That the environment sleeps: a run lasts long enough to be hit in its midst, at no cost."""


class Slow(ProbeEnvironment):
    """A known task that takes its time."""

    def step(self, action: np.ndarray) -> Timestep:
        """Sleep, then step."""
        time.sleep(STEP_SECONDS)
        return super().step(action)


def task() -> Slow:
    """Make the environment of all runs."""
    return Slow(lambda cue, action: 1.0 - (action - cue) ** 2, cues=(-0.5, 0.5), length=4)


def quick() -> ProbeEnvironment:
    """Make the same environment without the waiting."""
    return ProbeEnvironment(lambda cue, action: 1.0 - (action - cue) ** 2, (-0.5, 0.5), length=4)


def study() -> Any:
    """Return a study of two arms and six seeds, with networks of eight units."""
    from kanbatsu.study.file import study_from_dict

    tiny = {"network": "mlp", "width": 8, "blocks": 1}
    return study_from_dict(
        {
            "question": "Is anything lost?",
            "tasks": ["faults:task"],
            "env_steps": 120,
            "seeds": 6,
            "control": "dense",
            "actor": tiny,
            "critic": tiny,
            "train": {
                "batch_size": 4,
                "warmup_interactions": 10,
                "replay_capacity": 100,
                "evaluate_every": 60,
                "evaluation_episodes": 2,
                "log_every": 10,
                "probe_every": 60,
                "probe_batch": 8,
                "checkpoint_every": 20,
            },
            "arm": {"dense": {}, "sparse": {"critic": {"sparsity": 0.5}}},
        }
    )


def drive(out: Path, engine: str, address: str | None) -> None:
    """Complete the study in a folder and write its summary; this is the process that is killed."""
    from kanbatsu.engine.place import PlaceConfig
    from kanbatsu.engine.run_study import run_study
    from kanbatsu.files.store import StudyFolder
    from kanbatsu.report.results import read_study
    from kanbatsu.report.summary import summarise

    # The same cores for each run under both engines: numerical libraries round by their number.
    told: dict[str, Any] = {"engine": engine, "workers": 2, "retries": 5, "address": address}
    config = PlaceConfig(**told, run_timeout=300.0)  # which a clock that jumps must not reach
    if not run_study(study(), out, config, command="faults"):
        sys.exit("a run failed")
    StudyFolder(out).write_summary(summarise(read_study(out)))


@dataclass(frozen=True)
class Arguments:
    """Disturb studies, and compare what is left."""

    repetitions: int = 20
    """Of each kind."""
    kinds: tuple[Literal["worker", "driver", "node", "clock"], ...] = (
        "worker",
        "driver",
        "node",
        "clock",
    )
    """What is killed, or jumps."""
    seed: int = 0
    """Of the moments."""
    results: Path = HERE / "results" / "faults.jsonl"
    """Where a line is added."""
    drive: Path | None = None
    """For the driver's own process: the folder."""
    address: str | None = None
    """For the driver's own process: the Ray cluster."""


class Nodes:
    """A Ray cluster of a head without CPUs, and two nodes of one CPU each."""

    def __init__(self) -> None:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        from ray.cluster_utils import Cluster

        self.cluster = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
        )
        self.nodes = [self.cluster.add_node(num_cpus=1) for _ in range(2)]

    def kill_one(self, rng: random.Random) -> None:
        """Kill a node's daemons at once, and let another one join."""
        node = self.nodes.pop(rng.randrange(len(self.nodes)))
        self.cluster.remove_node(node, allow_graceful=False)
        self.nodes.append(self.cluster.add_node(num_cpus=1))


class Clock:
    """The date that a driver and its workers are told; monotonic clocks are as they were."""

    def __init__(self, place: Path) -> None:
        library = place / "clock.so"
        words = ["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(HERE / "clock.c"), "-ldl"]
        subprocess.run(words, check=True)
        self._offset = place / "clock"
        self._offset.write_bytes(bytes(8))
        self.variables = {"LD_PRELOAD": str(library), "KANBATSU_CLOCK": str(self._offset)}

    def jump(self, rng: random.Random) -> None:
        """Set the clock to another day."""
        seconds = 86_400 * rng.choice([-30, -1, 1, 30])
        with self._offset.open("r+b") as file:  # mapped by those who look at the clock
            file.write(struct.pack("=q", seconds))
        words = [sys.executable, "-c", "import time; print(time.time())"]
        told = subprocess.check_output(words, env={**os.environ, **self.variables})
        if abs(float(told) - time.time() - seconds) > 60:
            raise SystemExit(f"the clock did not jump by {seconds} seconds")


def begin(out: Path, address: str | None, clock: Clock | None = None) -> subprocess.Popen[bytes]:
    """Start a driver."""
    words = [sys.executable, str(HERE / "faults.py"), "--drive", str(out)]
    words += ["--address", address] if address else []
    log = (out.parent / f"{out.name}.log").open("ab")
    variables = {**os.environ, **(clock.variables if clock else {})}
    return subprocess.Popen(words, stdout=log, stderr=log, env=variables)


def lines(out: Path) -> int:
    """Count the results of all runs."""
    return sum(path.read_bytes().count(b"\n") for path in out.glob("runs/*/metrics.jsonl"))


def workers_of(driver: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Return the processes that train."""
    try:
        return [
            process
            for process in psutil.Process(driver.pid).children(recursive=True)
            if "kanbatsu.engine.worker" in process.cmdline()
        ]
    except psutil.NoSuchProcess:
        return []


def moments(rng: random.Random, out: Path, end: int) -> Iterator[float]:
    """Yield how far the study is to be at the next fault, in lines of results."""
    done = lines(out)
    yield from sorted(rng.uniform(done, 0.95 * end) for _ in range(rng.randint(1, 3)))


def disturb(kind: str, whole: Path, out: Path, rng: random.Random, nodes: Nodes | None) -> int:
    """Complete a half-finished study while something happens to it; return how often it did."""
    runs = sorted(path.name for path in (whole / "runs").iterdir())
    finished = rng.sample(runs, rng.randint(7, 10))
    for run in finished:
        shutil.copytree(whole / "runs" / run, out / "runs" / run)
    address = nodes.cluster.address if nodes else None
    end, clock = lines(whole), Clock(out.parent) if kind == "clock" else None
    faults, driver = 0, begin(out, address, clock)
    for at in moments(rng, out, end):
        while lines(out) < at and driver.poll() is None:
            time.sleep(0.02)
        time.sleep(rng.uniform(0.0, 0.5))
        if driver.poll() is not None:
            break
        if kind == "worker":
            alive = workers_of(driver)
            if alive:
                rng.choice(alive).kill()
                faults += 1
        elif nodes is not None:
            nodes.kill_one(rng)
            faults += 1
        elif clock is not None:
            clock.jump(rng)
            faults += 1
        else:
            driver.kill()
            driver.wait()
            faults += 1
            driver = begin(out, address)
    if driver.wait() != 0:
        raise SystemExit(f"the study did not complete:\n{Path(f'{out}.log').read_text()}")
    return faults


def compare(whole: Path, out: Path) -> dict[str, int]:
    """Count what is not as in the study that nothing happened to."""
    expected = {path.parent.name: path.read_bytes() for path in whole.glob("runs/*/metrics.jsonl")}
    found = {path.parent.name: path.read_bytes() for path in out.glob("runs/*/metrics.jsonl")}
    return {
        "lost": len(expected.keys() - found.keys()),
        "doubled": len(found.keys() - expected.keys()),
        "different": sum(found.get(run) != text for run, text in expected.items()),
        "summary_different": int(
            (out / "summary.json").read_bytes() != (whole / "summary.json").read_bytes()
        ),
    }


def main(arguments: Arguments) -> None:
    """Do it."""
    paths = (str(HERE), os.environ.get("PYTHONPATH", ""))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    if arguments.drive is not None:
        drive(arguments.drive, "ray" if arguments.address else "local", arguments.address)
        return
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory(prefix="kanbatsu-faults-") as place:
        # Compiled programs are shared by all repetitions, which says nothing about faults.
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(Path(place) / "compiled")
        whole = Path(place) / "whole"
        whole.mkdir()
        if begin(whole, None).wait() != 0:
            raise SystemExit((Path(place) / "whole.log").read_text())
        for kind in arguments.kinds:
            nodes = Nodes() if kind == "node" else None
            total = {"repetitions": 0, "faults": 0}
            total |= {"lost": 0, "doubled": 0, "different": 0, "summary_different": 0}
            for repetition in range(arguments.repetitions):
                out = Path(place) / f"{kind}-{repetition}"
                total["faults"] += disturb(kind, whole, out, rng, nodes)
                total["repetitions"] += 1
                for name, count in compare(whole, out).items():
                    total[name] += count
                print(kind, total, flush=True)
                shutil.rmtree(out)
            store(arguments, kind, total)
            if nodes:
                nodes.cluster.shutdown()


def store(arguments: Arguments, kind: str, total: dict[str, int]) -> None:
    """Add a line to the results."""
    record = {
        "date": datetime.now(UTC).date().isoformat(),
        "disturbed": kind,
        "runs": 12,
        **total,
        "seed": arguments.seed,
        "machine": machine_facts(),
    }
    with arguments.results.open("a") as file:
        file.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Arguments))
