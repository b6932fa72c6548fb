"""The end of a run's growing results, read as it grows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kanbatsu.files.shape import line_misfit
from kanbatsu.files.store import METRICS

DORMANT = 0.5
"""Share of dormant units from which on a run is pointed out."""


def _line(text: bytes) -> dict[str, Any] | None:
    """Return a line of results; None where it is damaged."""
    try:
        line: dict[str, Any] = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return line if line_misfit(line) is None else None


@dataclass
class Tail:
    """The latest results of a run, read on from where the last look ended.

    It is for showing: a line that is damaged is passed over here, and named by
    `RunFolder.metrics`.

    Example:
        >>> import tempfile
        >>> from kanbatsu.files.store import RunFolder
        >>> run = RunFolder(Path(tempfile.mkdtemp()))
        >>> run.append({"kind": "episode", "env_steps": 10, "return": 7.0})
        >>> tail = Tail(run.path)
        >>> len(tail.read()), tail.env_steps, tail.latest_return
        (1, 10, 7.0)
        >>> tail.read()
        []
    """

    folder: Path
    """The run's own folder."""
    env_steps: int = 0
    """Env steps of the latest line."""
    latest_return: float | None = None
    """Return of the latest episode or evaluation."""
    health: Mapping[str, float | None] = field(default_factory=dict)
    """Metrics of the latest probe."""
    lines: int = 0
    """Lines read so far; counted anew where a resumed run has cut lines off."""
    _read: int = 0

    def read(self) -> list[dict[str, Any]]:
        """Return the lines that are new; all of them, where a resumed run has cut some off."""
        path = self.folder / METRICS
        if not path.exists():
            return []
        with path.open("rb") as file:
            if file.seek(0, 2) < self._read:
                self._read = self.lines = 0
            file.seek(self._read)
            complete, newline, _ = file.read().rpartition(b"\n")
        self._read += len(complete) + len(newline)
        lines = list(filter(None, map(_line, complete.splitlines())))
        self.lines += len(lines)
        for line in lines:
            self.env_steps = line["env_steps"]
            value = line.get("return", line.get("mean_return"))
            self.latest_return = self.latest_return if value is None else value
            if line["kind"] == "probe":
                self.health = line["metrics"]
        return lines

    @property
    def begun(self) -> bool:
        """True where there is any result."""
        return self._read > 0

    @property
    def warning(self) -> str | None:
        """The worst of the latest probe, in words.

        Example:
            >>> Tail(Path(), health={"critic/dormant_0.1": 0.7, "actor/dormant_0.1": 0.6}).warning
            'critic: 70 % of units dormant'
        """
        unfit = sorted(name for name, value in self.health.items() if value is None)
        if unfit:
            return f"{unfit[0]} is not finite"
        dormant = {
            name.partition("/")[0]: value
            for name, value in self.health.items()
            if name.endswith("/dormant_0.1") and value is not None
        }
        if not dormant or max(dormant.values()) < DORMANT:
            return None
        network = max(dormant, key=lambda name: dormant[name])
        return f"{network}: {100 * dormant[network]:.0f} % of units dormant"
