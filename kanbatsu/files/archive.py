"""The runs of an archived study in one file, a run a line, in the order of their ids."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kanbatsu.files.disk import SEAL, read_line, replace
from kanbatsu.files.shape import CONFIG, STATUS, TIMES, Maybe, line_misfit, misfit
from kanbatsu.files.tables import canonical_hash

PARTS = {
    "config": CONFIG,
    "status": Maybe(STATUS),
    "machine": Maybe(dict),
    "timing": [TIMES],
    "metrics": [dict],
}
"""Shapes of what a line has beside the run's id: what the files of the run's folder would hold."""

RUN = {"run": str, **PARTS}
AGAIN = "Restore the file, or delete it and call `kanbatsu archive` again."


def read_runs(path: Path) -> dict[str, dict[str, Any]]:
    """Return the `PARTS` of every run in an archive, by run id; nothing where there is no file.

    Raises:
        DamagedFile: A line is not that of a run.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "runs.jsonl"
        >>> part = {"config": {"env_steps": 9}, "status": {"state": "failed", "error": "why"}}
        >>> write_runs(path, {"a": part | {"machine": None, "timing": [], "metrics": []}})
        >>> list(read_runs(path))
        ['a']
    """
    lines = path.read_bytes().splitlines() if path.exists() else []
    read = [
        read_line(line, f"{path}, line {number},", _misfit, AGAIN)
        for number, line in enumerate(lines, start=1)
    ]
    return {run["run"]: {part: run.get(part) for part in PARTS} for run in read}


def _misfit(run: Any) -> str | None:
    """Return what is wrong with a line of an archive; None where nothing is."""
    problem = misfit(run, RUN)
    if problem is None and SEAL in run and run.pop(SEAL) != canonical_hash(run):
        problem = "its checksum does not match"
    return problem or next(filter(None, map(line_misfit, run["metrics"])), None)


def write_runs(path: Path, runs: Mapping[str, Mapping[str, Any]]) -> None:
    """Replace an archive atomically by text that is equal, byte for byte, for equal runs.

    Args:
        path: Place of the file.
        runs: The `PARTS` of each run, by run id.
    """
    text = ""
    for run_id in sorted(runs):
        line = {"run": run_id} | {part: runs[run_id][part] for part in PARTS}
        line[SEAL] = canonical_hash(line)
        text += json.dumps(line, allow_nan=False, ensure_ascii=False, separators=(",", ":")) + "\n"
    replace(path, text)
