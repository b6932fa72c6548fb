"""Whose folder it is: one engine at a time, one process per run, and one study for good."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from kanbatsu.study.store import DamagedFile, StudyFolder

LOCK = ".lock"
"""In the folder of a study, and in that of each run."""

SHOWN_DIFFERENCES = 8
"""Settings that are listed when a folder holds a different study."""


WAIT_SECONDS = 0.2
"""Between two looks at whether a run is free."""


class StudyError(ValueError):
    """A study that cannot run in the folder given; the message says why and what to do."""


@contextlib.contextmanager
def lock(out: Path) -> Iterator[None]:
    """Keep a second engine out of a folder, until this one ends or dies.

    Raises:
        StudyError: Another engine works in the folder.
    """
    out.mkdir(parents=True, exist_ok=True)
    with (out / LOCK).open("a+") as file:
        if not take(file):
            file.seek(0)
            raise StudyError(
                f"another kanbatsu ({file.read().strip() or 'just started'}) is working in {out}: "
                "wait until it has ended, or give another --out"
            )
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


@contextlib.contextmanager
def own(run: Path, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Keep every other process out of a run, on all machines that share the folder.

    Whoever works on the run already is waited for: a process that an engine left behind when it
    died, or a job that a scheduler still has. The system lets go of the lock of a process that is
    dead, so nothing here depends on a clock.

    Args:
        run: The run's folder; made where there is none.
        on_wait: Called again and again while another process has the run.
    """
    run.mkdir(parents=True, exist_ok=True)
    with (run / LOCK).open("a") as file:
        while not take(file):
            on_wait()
            time.sleep(WAIT_SECONDS)
        yield


def is_owned(run: Path) -> bool:
    """Whether a process works on a run at this moment."""
    try:
        with (run / LOCK).open("r") as file:
            return not take(file, fcntl.LOCK_SH)
    except FileNotFoundError:
        return False


def take(file: IO[str], kind: int = fcntl.LOCK_EX) -> bool:
    """Lock an open file until it is closed, unless somebody else has it; say whether it worked."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def claim(folder: StudyFolder, record: Mapping[str, Any]) -> None:
    """Write down which study a folder holds: a new one, the same one, or the same one grown.

    Args:
        folder: Where the study lives.
        record: What `study.json` is to hold.

    Raises:
        StudyError: The folder holds a study with a run that `record` does not plan, or one that
            was to be decided by another rule.
    """
    try:
        old = folder.read_study() if folder.holds_study else None
    except DamagedFile as error:
        raise StudyError(str(error)) from error
    if old is not None and (_rule(old) != _rule(record) or not _run_ids(old) <= _run_ids(record)):
        raise StudyError(_refusal(folder.path, old, record))
    folder.write_study(record)


def _refusal(out: Path, old: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    lines = [f"  {line}" for line in _differences(old, record)]
    if len(lines) > SHOWN_DIFFERENCES:
        lines[SHOWN_DIFFERENCES:] = [f"  and {len(lines) - SHOWN_DIFFERENCES} more"]
    return (
        f"{out} holds a different study:\n" + "\n".join(lines) + "\n"
        "Give another --out, or delete that folder if its results are not needed. "
        "(Arms, tasks and seeds may be added to a study, but not changed or taken away, and the "
        "rule that decides is written down before the runs.)"
    )


def _rule(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what decides, as it comes back from a file; nothing where nothing is decided."""
    rule = record.get("decision")
    if rule is None:
        return {}
    rule = json.loads(json.dumps(rule))
    return _flatten(rule, "decision.") | {"control": record.get("control")}


def _run_ids(record: Mapping[str, Any]) -> set[str]:
    return {
        run_id
        for arm in record["arms"].values()
        for by_seed in arm["runs"].values()
        for run_id in by_seed.values()
    }


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """Say what decides results and is not the same in two records of studies."""
    for key in ("tasks", "seeds", "env_steps"):
        if old[key] != new[key]:
            yield f"{key}: {old[key]} there, {new[key]} here"
    before, after = _rule(old), _rule(new)
    for key in sorted(before.keys() | after.keys()):
        if before.get(key) != after.get(key):
            yield f"{key}: {before.get(key)} there, {after.get(key)} here"
    for name in sorted(old["arms"].keys() | new["arms"].keys()):
        if name not in new["arms"]:
            yield f"arm.{name}: there, but not here"
        elif name not in old["arms"]:
            yield f"arm.{name}: here, but not there"
        else:
            before, after = _flatten(old["arms"][name]), _flatten(new["arms"][name])
            for key in sorted(before.keys() | after.keys()):
                if before.get(key) != after.get(key):
                    yield f"arm.{name}.{key}: {before.get(key)} there, {after.get(key)} here"


def _flatten(arm: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return an arm's settings under the names that a study file gives them."""
    flat: dict[str, Any] = {}
    for key, value in arm.items():
        if key == "config":
            flat |= _flatten(value, prefix)
        elif key != "runs" and isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        elif key != "runs":
            flat[prefix + key] = value
    return flat
