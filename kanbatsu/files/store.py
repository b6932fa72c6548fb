"""Where a study lives on disk: the only file that knows the names of a study's files.

Files are the truth. Results grow as JSON lines with one writer per file; everything else is
replaced atomically; nothing is ever unpickled.
"""

from __future__ import annotations

import json
import math
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

METRICS = "metrics.jsonl"
TIMING = "timing.jsonl"


class DamagedFile(ValueError):
    """A file that is not what was written; the message says which and what to do."""


@dataclass(frozen=True)
class RunFolder:
    """The files of one run: one arm, one task, one seed. Folders appear at the first write.

    Example:
        >>> import tempfile
        >>> run = RunFolder(Path(tempfile.mkdtemp()) / "runs" / "a")
        >>> run.append({"kind": "update", "env_steps": 2, "metrics": {"critic_loss": float("nan")}})
        >>> run.metrics()
        [{'kind': 'update', 'env_steps': 2, 'metrics': {'critic_loss': None}}]
    """

    path: Path
    """The run's own folder, OUT/runs/<run id>."""

    @property
    def checkpoint(self) -> Path:
        """The folder of the run's checkpoints; reports never read it."""
        return self.path / "checkpoint"

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Store the `Run` record, as nested dicts: all that the run is a function of."""
        write_json(self.path / "config.json", config)

    def read_config(self) -> dict[str, Any]:
        """Return the `Run` record.

        Raises:
            FileNotFoundError: Nothing was stored here.
        """
        return read_json(self.path / "config.json")

    def write_status(
        self,
        state: Literal["running", "finished", "failed"],
        error: str | None = None,
        traceback: str | None = None,
    ) -> None:
        """Store how the run is doing; a failure is a result and keeps its message and traceback."""
        status = {"state": state, "error": error, "traceback": traceback}
        write_json(self.path / "status.json", status)

    def read_status(self) -> dict[str, Any] | None:
        """Return `{"state", "error", "traceback"}`, or None where the run never started."""
        path = self.path / "status.json"
        return read_json(path) if path.exists() else None

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one result. Numbers that are not finite are stored as null: JSON has no NaN."""
        _append(self.path / METRICS, record)

    def append_timing(self, record: Mapping[str, Any]) -> None:
        """Add one line of wall-clock facts, which are kept apart from results."""
        _append(self.path / TIMING, record)

    def write_machine(self, machine: Mapping[str, Any]) -> None:
        """Store versions and hardware, which are kept apart from results."""
        write_json(self.path / "machine.json", machine)

    def metrics(self) -> list[dict[str, Any]]:
        """Return every complete result, oldest first; a last line cut off by a kill is ignored."""
        return _read_lines(self.path / METRICS)

    def timing(self) -> list[dict[str, Any]]:
        """Return every complete line of timing, oldest first."""
        return _read_lines(self.path / TIMING)

    def machine(self) -> dict[str, Any] | None:
        """Return versions and hardware, or None where none were stored."""
        path = self.path / "machine.json"
        return read_json(path) if path.exists() else None

    def sizes(self) -> dict[str, int]:
        """Return the bytes of complete lines in each growing file, for a checkpoint to remember.

        The files are forced to disk first, so that no checkpoint outlives the lines it counts.
        """
        return {name: _durable_size(self.path / name) for name in (METRICS, TIMING)}

    def truncate(self, sizes: Mapping[str, int]) -> None:
        """Forget what was written after a checkpoint, so that a resumed run writes it again.

        Args:
            sizes: What `sizes` returned when the checkpoint was made, in bytes.

        Raises:
            ValueError: A file is shorter than that; the checkpoint belongs to other files.
        """
        for name, size in sizes.items():
            path = self.path / name
            actual = path.stat().st_size if path.exists() else 0
            if actual < size:
                raise ValueError(
                    f"{path} has {actual} bytes, but the checkpoint was made when it had {size}: "
                    "lines were lost. Use an earlier checkpoint, or delete the run's folder to "
                    "start it afresh."
                )
            if actual > size:
                os.truncate(path, size)

    @property
    def finished(self) -> bool:
        """Whether the results reach the end of the run; computed from data, never from a flag."""
        if not (self.path / "config.json").exists():
            return False
        return reaches(self.metrics(), self.read_config()["env_steps"])


@dataclass(frozen=True)
class StudyFolder:
    """The files of one study: what was asked, its runs, and the report on them."""

    path: Path
    """The OUT folder that the user named."""

    def write_study(self, study: Mapping[str, Any]) -> None:
        """Store the question, the arms and the id of each run."""
        write_json(self.path / "study.json", study)

    def read_study(self) -> dict[str, Any]:
        """Return the question, the arms and the id of each run.

        Raises:
            FileNotFoundError: The folder holds no study.
        """
        path = self.path / "study.json"
        if not path.exists():
            raise FileNotFoundError(
                f"{self.path} holds no study: {path.name} is missing. Run "
                f"`kanbatsu study FILE.toml --out {self.path}` first, or name another folder."
            )
        return read_json(path)

    @property
    def holds_study(self) -> bool:
        """Whether a study was stored here."""
        return (self.path / "study.json").exists()

    def run_folder(self, run_id: str) -> RunFolder:
        """Return the folder of one run.

        Raises:
            ValueError: The id would lead out of the study's folder.
        """
        if Path(run_id).name != run_id or run_id in ("", ".."):
            raise ValueError(f"a run id is the name of one folder, got {run_id!r}")
        return RunFolder(self.path / "runs" / run_id)

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Store the results in numbers."""
        write_json(self.path / "summary.json", summary)

    def write_timing(self, timing: Mapping[str, Any]) -> None:
        """Store times, versions and machines."""
        write_json(self.path / "timing.json", timing)

    def write_report(self, html: str, lang: str = "en") -> Path:
        """Store the page that people read; return where it is."""
        page = self.report(lang)
        self.write_atomic(page.name, html)
        return page

    def report(self, lang: str = "en") -> Path:
        """Return where the page that people read is, or would be: one file per language."""
        return self.path / ("report.html" if lang == "en" else f"report.{lang}.html")

    def write_atomic(self, name: str, text: str) -> None:
        """Replace one file of the study; readers see the old text or the new, never a half."""
        _replace(self.path / name, text)


def ends_at(study: Mapping[str, Any], arm: Mapping[str, Any], task: str) -> int:
    """Return the env steps of an arm's runs on a task: the study's, or what its match came to.

    Args:
        study: What `study.json` holds.
        arm: The arm's entry in it.
        task: One of the study's.

    Example:
        >>> ends_at({"env_steps": 100}, {"solved": {"a": {"env_steps": 130}}}, "a")
        130
    """
    solved = arm.get("solved") or {}
    steps: int = solved[task]["env_steps"] if task in solved else study["env_steps"]
    return steps


def reaches(metrics: Sequence[Mapping[str, Any]], env_steps: int) -> bool:
    """Whether the last evaluation in `metrics` is at the end of a run of `env_steps`.

    Example:
        >>> reaches([{"kind": "evaluation", "env_steps": 500}], env_steps=1000)
        False
    """
    evaluated = [record["env_steps"] for record in metrics if record["kind"] == "evaluation"]
    return bool(evaluated) and evaluated[-1] >= env_steps


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Replace `path` atomically by JSON that is equal, byte for byte, for equal values.

    Raises:
        ValueError: A number is not finite; JSON has no word for it.
    """
    text = json.dumps(value, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False)
    _replace(path, text + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        DamagedFile: It is none.
    """
    try:
        value: dict[str, Any] = json.loads(path.read_bytes())
    except ValueError as error:
        raise DamagedFile(f"{path} is not valid JSON ({error}); restore or delete it") from error
    return value


def finite(value: Any) -> Any:
    """Return `value` with every number that is not finite replaced by None, all the way down.

    Example:
        >>> finite({"loss": [1.0, float("inf")]})
        {'loss': [1.0, None]}
    """
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _replace(path: Path, text: str) -> None:
    """Write beside the target, force it to disk, then rename: a full disk keeps the old file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Machines may share the folder, so a process id alone is not unique.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _append(path: Path, record: Mapping[str, Any]) -> None:
    line = json.dumps(finite(record), allow_nan=False, ensure_ascii=False).encode() + b"\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        # A kill in the middle of a write leaves half a line; without this the new line joins it.
        file.truncate(_complete_bytes(path))
        file.write(line)
        file.flush()


def _complete_bytes(path: Path) -> int:
    """Return the length of `path` up to and including its last newline, in bytes."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - 4096)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            end = start
    return 0


def _durable_size(path: Path) -> int:
    if not path.exists():
        return 0
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return _complete_bytes(path)


def _read_lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    complete = path.read_bytes().split(b"\n")[:-1]
    records = []
    for number, line in enumerate(complete, start=1):
        try:
            records.append(json.loads(line))
        except ValueError as error:
            raise DamagedFile(
                f"{path}, line {number}, is damaged ({error}). Delete the run's folder and call "
                "`kanbatsu study` again: it repeats only what is missing."
            ) from error
    return records
