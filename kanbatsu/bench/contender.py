"""One contender of the benchmark, in a process of its own: it works when it is told to.

A process per contender gives each its own peak memory; taking turns gives all the same noise.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from kanbatsu.bench.entrant import Entrant, Facts
from kanbatsu.machine import peak_resident_bytes


def prepare(spec: Entrant) -> tuple[Callable[[], Any], int, Facts]:
    """Make a contender.

    Returns:
        A call that works until its result is there, the units of work in a call, and the facts.

    Raises:
        ImportError: if the library that it stands for is not installed.
    """
    if spec.what == "inference":
        from kanbatsu.bench.inference import prepare_inference

        return prepare_inference(spec)
    from kanbatsu.bench.update import prepare_update

    return prepare_update(spec)


class Contender:
    """A contender's process, seen from the race."""

    def __init__(self, spec: Entrant):
        self.spec = spec
        self._process = subprocess.Popen(
            [sys.executable, "-m", "kanbatsu.bench.contender", json.dumps(asdict(spec))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Contender:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def facts(self) -> Facts | str:
        """Wait until it is ready; the reason, where it cannot take part."""
        answer = self._answer()
        return answer if isinstance(answer, str) else Facts(**answer)

    def work(self, calls: int) -> list[float]:
        """Return the milliseconds per unit of each of some calls."""
        print(calls, file=self._process.stdin, flush=True)
        return self._answer()

    def peak_bytes(self) -> int:
        """Return the most memory that it ever held."""
        print(0, file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> Any:
        line = self._process.stdout.readline() if self._process.stdout else ""
        return json.loads(line) if line else f"stopped with status {self._process.wait()}"


def main() -> None:
    """Answer the race: how long calls take, and the peak memory when asked for none."""
    try:
        call, units, facts = prepare(Entrant(**json.loads(sys.argv[1])))
    except ImportError as error:
        _say(f"not installed: {error.name}")
        return
    call()
    _say(asdict(facts))
    for line in sys.stdin:
        calls = int(line)
        if calls == 0:
            _say(peak_resident_bytes())
        else:
            _say([_milliseconds(call) / units for _ in range(calls)])


def _say(answer: Any) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def _milliseconds(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - started)


if __name__ == "__main__":
    main()
