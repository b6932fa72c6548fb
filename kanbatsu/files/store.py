"""Where a study lives on disk: the only file that knows the names of a study's files.

Files are the truth. Results grow as JSON lines with one writer per file; everything else is
replaced atomically; nothing is ever unpickled.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from kanbatsu.files.archive import read_runs, write_runs
from kanbatsu.files.disk import (
    REPEAT,
    DamagedFile,
    append,
    digest,
    durable_size,
    read_json,
    read_lines,
    replace,
    sealed,
    write_json,
)
from kanbatsu.files.shape import (
    CONFIG,
    PICTURES,
    STATUS,
    STUDY,
    TIMES,
    line_misfit,
    misfit,
    reaches,
)

METRICS = "metrics.jsonl"
TIMING = "timing.jsonl"
STATUS_FILE = "status.json"
PICTURES_FILE = "pictures.json"
RUNS = "runs.jsonl"
RESULTS = "metrics_sha256"
"""Key in status.json of the checksum of a finished run's results."""

AGAIN = "restore it, or delete it and give the same command again: it is written anew"
"""Advice on a damaged file that holds no results."""


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
    archived: Mapping[str, Any] | None = field(default=None, repr=False)
    """Contents of the run in the study's archive, which are read in place of the folder's."""

    @property
    def checkpoint(self) -> Path:
        """The folder of the run's checkpoints; reports never read it."""
        return self.path / "checkpoint"

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Store the `Run` record, as nested dicts: all that the run is a function of."""
        write_json(self.path / "config.json", sealed(config))

    def read_config(self) -> dict[str, Any]:
        """Return the `Run` record.

        Raises:
            FileNotFoundError: Nothing was stored here.
            DamagedFile: The file is not what was written.
        """
        config: dict[str, Any] | None = self._part("config")
        if config is None:
            raise FileNotFoundError(f"{self.path / 'config.json'} is missing")
        return config

    def write_status(
        self,
        state: Literal["running", "finished", "failed"],
        error: str | None = None,
        traceback: str | None = None,
    ) -> None:
        """Store how the run is doing; a failure is a result and keeps its message and traceback.

        With `finished` goes the checksum of the results, which `metrics` compares.
        """
        status = {"state": state, "error": error, "traceback": traceback}
        if state == "finished":
            status[RESULTS] = self.digest()
        write_json(self.path / STATUS_FILE, sealed(status))

    def read_status(self) -> dict[str, Any] | None:
        """Return `{"state", "error", "traceback"}`, or None where the run never started.

        Raises:
            DamagedFile: The file is not what was written.
        """
        status: dict[str, Any] | None = self._part("status")
        return status and {key: value for key, value in status.items() if key != RESULTS}

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one result. Numbers that are not finite are stored as null: JSON has no NaN."""
        append(self.path / METRICS, record)

    def append_timing(self, record: Mapping[str, Any]) -> None:
        """Add one line of wall-clock facts, which are kept apart from results."""
        append(self.path / TIMING, record)

    def write_machine(self, machine: Mapping[str, Any]) -> None:
        """Store versions and hardware, which are kept apart from results."""
        write_json(self.path / "machine.json", sealed(machine))

    def write_environment(self, environment: Mapping[str, Any]) -> None:
        """Store what the environment is outside of the agent: its actuators, its action repeat."""
        write_json(self.path / "environment.json", sealed(environment))

    def environment(self) -> dict[str, Any]:
        """Return what `write_environment` stored; of a run from before it was, nothing."""
        return self._part("environment") or {}

    def metrics(self) -> list[dict[str, Any]]:
        """Return every complete result, oldest first; a last line cut off by a kill is ignored.

        Raises:
            DamagedFile: The results are not what was written.
        """
        if self.archived is None:
            expected = (self._part("status") or {}).get(RESULTS)
            if expected is not None and expected != self.digest():
                raise DamagedFile(
                    f"{self.path / METRICS} is not what was written (its checksum in status.json "
                    f"does not match). {REPEAT}"
                )
        return self._part("metrics")

    def timing(self) -> list[dict[str, Any]]:
        """Return every complete line of timing, oldest first."""
        return self._part("timing")

    def machine(self) -> dict[str, Any] | None:
        """Return versions and hardware, or None where none were stored."""
        return self._part("machine")

    def sizes(self) -> dict[str, int]:
        """Return the bytes of complete lines in each growing file, for a checkpoint to remember.

        The files are forced to disk first, so that no checkpoint outlives the lines it counts.
        """
        return {name: durable_size(self.path / name) for name in (METRICS, TIMING)}

    def digest(self, size: int | None = None) -> str:
        """Return the checksum of the results, or of their first `size` bytes."""
        path = self.path / METRICS
        return digest(path if path.exists() else Path(os.devnull), size)

    def truncate(self, sizes: Mapping[str, int], expected: str | None = None) -> None:
        """Forget what was written after a checkpoint, so that a resumed run writes it again.

        Args:
            sizes: What `sizes` returned when the checkpoint was made, in bytes.
            expected: What `digest` returned then; None where it was not asked.

        Raises:
            ValueError: A file is shorter than that; the checkpoint belongs to other files.
            DamagedFile: The results before the checkpoint are not what they were.
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
        if expected is not None and expected != self.digest():
            raise DamagedFile(
                f"{self.path / METRICS} is not what it was when the checkpoint was made. {REPEAT}"
            )

    @property
    def finished(self) -> bool:
        """True where the results reach the end of the run, computed from data."""
        config = self._part("config")
        return config is not None and reaches(self.metrics(), config["env_steps"])

    def _part(self, name: str) -> Any:
        """Return the contents of one of the run's files; None where there is no such JSON file."""
        if self.archived is not None:
            return self.archived.get(name)
        if name == "metrics":
            return read_lines(self.path / METRICS, line_misfit)
        if name == "timing":
            return read_lines(self.path / TIMING, lambda line: misfit(line, TIMES))
        path = self.path / f"{name}.json"
        shape = {"config": CONFIG, "status": STATUS}.get(name, dict)
        return read_json(path, shape, AGAIN) if path.exists() else None


@dataclass(frozen=True)
class StudyFolder:
    """The files of one study: its question, its runs, and the report on them."""

    path: Path
    """The OUT folder that the user named."""

    def write_study(self, study: Mapping[str, Any]) -> None:
        """Store the question, the arms and the id of each run."""
        write_json(self.path / "study.json", sealed(study))

    def read_study(self) -> dict[str, Any]:
        """Return the question, the arms and the id of each run.

        Raises:
            FileNotFoundError: The folder holds no study.
            DamagedFile: The file is not what was written.
        """
        path = self.path / "study.json"
        if not path.exists():
            raise FileNotFoundError(
                f"{self.path} holds no study: {path.name} is missing. Run "
                f"`kanbatsu study FILE.toml --out {self.path}` first, or name another folder."
            )
        return read_json(path, STUDY, AGAIN)

    @property
    def holds_study(self) -> bool:
        """True where a study was stored here."""
        return (self.path / "study.json").exists()

    def run_folder(self, run_id: str) -> RunFolder:
        """Return the folder of one run, or what the archive holds of it.

        The archive is read for a run that it holds whole, and for one that has no folder.

        Raises:
            ValueError: The id would lead out of the study's folder.
        """
        if Path(run_id).name != run_id or run_id in ("", ".."):
            raise ValueError(f"a run id is the name of one folder, got {run_id!r}")
        folder = RunFolder(self.path / "runs" / run_id)
        if run_id not in self.archive:
            return folder
        archived = RunFolder(folder.path, self.archive[run_id])
        begun = (folder.path / STATUS_FILE).exists()
        return archived if archived.finished or not begun else folder

    @functools.cached_property
    def archive(self) -> Mapping[str, Mapping[str, Any]]:
        """The runs of the archive, as `read_runs` gives them; read once for this object."""
        return read_runs(self.path / RUNS)

    def write_archive(self, runs: Mapping[str, Mapping[str, Any]]) -> None:
        """Store runs in the archive, in place of all that it held."""
        write_runs(self.path / RUNS, runs)

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Store the results in numbers."""
        write_json(self.path / "summary.json", summary)

    def write_pictures(self, pictures: Sequence[Mapping[str, Any]]) -> None:
        """Store pictures of arms at work, which are no results: `shape.PICTURES`."""
        write_json(self.path / PICTURES_FILE, sealed({"pictures": list(pictures)}))

    def pictures(self) -> list[dict[str, Any]]:
        """Return what `write_pictures` stored; nothing where it never was."""
        path = self.path / PICTURES_FILE
        return read_json(path, PICTURES, AGAIN)["pictures"] if path.exists() else []

    def write_timing(self, timing: Mapping[str, Any]) -> None:
        """Store times, versions and machines."""
        write_json(self.path / "timing.json", timing)

    def write_report(self, html: str, lang: str = "en") -> Path:
        """Store the page that people read; return where it is."""
        page = self.report(lang)
        replace(page, html)
        return page

    def report(self, lang: str = "en") -> Path:
        """Return where the page that people read is, or would be: one file per language."""
        return self.path / ("report.html" if lang == "en" else f"report.{lang}.html")
