"""The runs of an archived study in one file, a run a line, in the order of their ids."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kanbatsu.files.disk import DamagedFile, replace

PARTS = ("config", "status", "machine", "timing", "metrics")
"""Keys of a line beside the run's id: each holds what a file of the run's folder would."""


def read_runs(path: Path) -> dict[str, dict[str, Any]]:
    """Return the `PARTS` of every run in an archive, by run id; nothing where there is no file.

    Raises:
        DamagedFile: A line is not that of a run.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "runs.jsonl"
        >>> write_runs(path, {"a": dict.fromkeys(PARTS, [])})
        >>> list(read_runs(path))
        ['a']
    """
    runs = {}
    lines = path.read_bytes().splitlines() if path.exists() else []
    for number, line in enumerate(lines, start=1):
        try:
            run = json.loads(line)
            runs[run["run"]] = {part: run[part] for part in PARTS}
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedFile(
                f"{path}, line {number}, is damaged ({error!r}). Restore the file, or delete it "
                "and call `kanbatsu archive` again."
            ) from error
    return runs


def write_runs(path: Path, runs: Mapping[str, Mapping[str, Any]]) -> None:
    """Replace an archive atomically by text that is equal, byte for byte, for equal runs.

    Args:
        path: Place of the file.
        runs: The `PARTS` of each run, by run id.
    """
    text = ""
    for run_id in sorted(runs):
        line = {"run": run_id} | {part: runs[run_id][part] for part in PARTS}
        text += json.dumps(line, allow_nan=False, ensure_ascii=False, separators=(",", ":")) + "\n"
    replace(path, text)
