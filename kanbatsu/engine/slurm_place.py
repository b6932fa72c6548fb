"""Slurm as a place for runs: job arrays, through submitit. Requeueing is Slurm's work.

Where there is no Slurm, submitit runs the same jobs on this machine.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from kanbatsu.engine.elsewhere import carry_elsewhere, forget_compiled, forwarded
from kanbatsu.engine.place import PlaceConfig
from kanbatsu.engine.supervise import Order, RunEnd, is_finished
from kanbatsu.files.lock import StudyError
from kanbatsu.files.store import RunFolder, StudyFolder
from kanbatsu.files.tables import parse_override
from kanbatsu.machine import usable_cores

MINUTES = 240
"""Time limit of a job, unless the user says `--slurm time=...`; one that needs longer is queued
again and continues from its last checkpoint."""

UNLIMITED_MINUTES = 10 * 365 * 24 * 60
"""Time limit of a job where there is no Slurm."""

TIMEOUTS = 1_000
"""Number of times that a job is queued again after it used up its time."""

LOOK_SECONDS = 5.0
"""Seconds between two looks at the queue, so that hundreds of studies do not burden it."""

ARRAY = 1_000
"""Jobs of an array where Slurm does not say how many there may be."""


class SlurmPlace:
    """Runs as jobs of Slurm, in arrays.

    Args:
        config: What each run gets.
        folder: The study's; all nodes must see it under the same path.

    Raises:
        StudyError: submitit is not installed, Slurm does not know an option, or a run is to have a
            part of a GPU, which Slurm does not divide.
    """

    def __init__(self, config: PlaceConfig, folder: StudyFolder) -> None:
        try:
            import submitit
        except ModuleNotFoundError as error:
            raise StudyError(
                f"--engine slurm needs submitit ({error}): pip install 'kanbatsu[slurm]'"
            ) from None
        if config.gpus != int(config.gpus):
            raise StudyError(f"--engine slurm gives whole GPUs only: --gpus {config.gpus:g}")
        self._config, self._folder = config, folder
        self._submitit: Any = submitit
        executor = submitit.AutoExecutor(
            folder.path.resolve() / "slurm" / "%j", slurm_max_num_timeout=TIMEOUTS
        )
        self.real = executor.cluster == "slurm"
        options = {"time": MINUTES} | dict(_option(text) for text in config.slurm)
        declared: dict[str, Any] = {
            "cpus_per_task": config.cpus,
            "gpus_per_node": int(config.gpus) or None,
            "mem_gb": config.memory,
        }
        if not self.real:  # it is Slurm's place to limit a job, and there is none here
            declared["timeout_min"] = UNLIMITED_MINUTES
        try:
            executor.update_parameters(
                name="kanbatsu",
                **{name: value for name, value in declared.items() if value is not None},
                **{f"slurm_{name}": value for name, value in options.items()},
            )
        except (NameError, TypeError, ValueError) as error:
            raise StudyError(f"--slurm: {error}") from error
        self._executor: Any = executor
        self._largest = _largest_array() if self.real else 1
        self._going: list[_SlurmJob] = []
        self._queued: set[str] = set()
        self._looked_at = -LOOK_SECONDS

    def room(self) -> int:
        """Return how many jobs may be handed over: all of them, unless somebody sets a limit."""
        self._going = [job for job in self._going if job.end is None]
        limit = self._config.workers
        if not self.real:  # submitit has no queue of its own
            here = max(1, len(usable_cores()) // self._config.cpus)
            limit = here if limit is None else min(limit, here)
        return sys.maxsize if limit is None else limit - len(self._going)

    def start(self, orders: Sequence[Order]) -> list[_SlurmJob]:
        """Submit runs, in arrays that are not larger than Slurm allows.

        Raises:
            StudyError: Slurm refuses the jobs.
        """
        jobs = []
        for begin in range(0, len(orders), self._largest):
            part = orders[begin : begin + self._largest]
            try:
                with self._executor.batch():
                    submitted = [
                        self._executor.submit(Carried(), order, self._config.cpus, forwarded())
                        for order in part
                    ]
            except self._submitit.core.utils.FailedJobError as error:
                raise StudyError(
                    f"Slurm refused the jobs: {error}\nSay --slurm KEY=VALUE as sbatch wants it, "
                    "or --workers N to hand over fewer at a time"
                ) from error
            jobs += [
                _SlurmJob(job, order, self) for job, order in zip(submitted, part, strict=True)
            ]
        self._going += jobs
        self._looked_at = -LOOK_SECONDS
        return jobs

    def describe(self) -> str:
        """Say where the jobs go."""
        each = f"{self._config.cpus} CPUs and {self._config.gpus:g} GPUs each"
        if self.real:
            return f"on Slurm, in arrays of at most {self._largest:,} jobs, with {each}"
        return f"by submitit on this machine, for there is no Slurm here, with {each}"

    def stop(self) -> None:
        """Cancel what goes on."""
        for job in self._going:
            if job.end is None:
                job.submitted.cancel(check=False)
        forget_compiled(self._folder.path)

    def has(self, submitted: Any) -> bool:
        """Return whether a job is still queued, or runs."""
        if not self.real:
            return not submitted.done()
        if submitted.paths.result_pickle.exists():
            return False
        if time.monotonic() - self._looked_at >= LOOK_SECONDS:
            listed = subprocess.run(
                ["squeue", "--me", "--noheader", "--array", "--format=%i"],
                capture_output=True,
                text=True,
                check=False,
            )
            if listed.returncode:  # a controller that is away for a moment
                return True
            self._queued = set(listed.stdout.split())
            self._looked_at = time.monotonic()
        return submitted.job_id in self._queued


class Carried:
    """Task of a job; submitit asks it what is to be done once the job's time is over."""

    def __call__(self, *what: Any) -> str | None:
        """Carry one run through; see `carry_elsewhere`."""
        return carry_elsewhere(*what)

    def checkpoint(self, *what: Any) -> Any:
        """Do the same again: the run continues from its last checkpoint."""
        import submitit

        return submitit.helpers.DelayedSubmission(self, *what)


class _SlurmJob:
    """A run that Slurm has."""

    def __init__(self, submitted: Any, order: Order, place: SlurmPlace) -> None:
        self.warnings: list[str] = []
        self.submitted = submitted
        self.end: RunEnd | None = None
        self._files, self._place = RunFolder(order.folder), place

    def poll(self) -> RunEnd | None:
        if self.end is None and not self._place.has(self.submitted):
            self.end = self._end()
        return self.end

    def _end(self) -> RunEnd:
        """Read off the run's own files how it ended."""
        if is_finished(self._files):
            return RunEnd(None)
        status = self._files.read_status() or {}
        if status.get("state") != "failed":
            where = self.submitted.paths.stderr
            self._files.write_status("failed", f"its job ended before the run did; see {where}")
        return RunEnd((self._files.read_status() or {})["error"])


def _option(text: str) -> tuple[str, Any]:
    path, value = parse_override(text)
    return ".".join(path), value


def _largest_array() -> int:
    """Return how many jobs Slurm takes in one array: `MaxArraySize`, the first index too high."""
    shown = subprocess.run(
        ["scontrol", "show", "config"], capture_output=True, text=True, check=False
    )
    limit = re.search(r"^MaxArraySize\s*=\s*(\d+)", shown.stdout, re.MULTILINE)
    return max(1, int(limit.group(1)) - 1) if limit else ARRAY
