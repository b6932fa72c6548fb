"""Whose folder it is: one engine at a time, and one study for good."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kanbatsu.study.store import StudyFolder

SHOWN_DIFFERENCES = 8
"""Settings that are listed when a folder holds a different study."""


class StudyError(ValueError):
    """A study that cannot run in the folder given; the message says why and what to do."""


@contextlib.contextmanager
def lock(out: Path) -> Iterator[int]:
    """Keep a second engine out of a folder.

    Yields:
        The lock's file descriptor. Workers inherit it, so that the folder stays locked for as long
        as anybody writes there.

    Raises:
        StudyError: Another engine, or a worker that it left behind, works in the folder.
    """
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise StudyError(
                f"another kanbatsu ({file.read().strip() or 'just started'}) is working in {out}: "
                "wait until it has ended, or give another --out"
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield file.fileno()


def claim(folder: StudyFolder, record: Mapping[str, Any]) -> None:
    """Write down which study a folder holds: a new one, the same one, or the same one grown.

    Args:
        folder: Where the study lives.
        record: What `study.json` is to hold.

    Raises:
        StudyError: The folder holds a study with a run that `record` does not plan.
    """
    try:
        old = folder.read_study() if folder.holds_study else None
    except ValueError as error:  # a damaged file; the message says which
        raise StudyError(str(error)) from error
    if old is not None and not _run_ids(old) <= _run_ids(record):
        raise StudyError(_refusal(folder.path, old, record))
    folder.write_study(record)


def _refusal(out: Path, old: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    lines = [f"  {line}" for line in _differences(old, record)]
    if len(lines) > SHOWN_DIFFERENCES:
        lines[SHOWN_DIFFERENCES:] = [f"  and {len(lines) - SHOWN_DIFFERENCES} more"]
    return (
        f"{out} holds a different study:\n" + "\n".join(lines) + "\n"
        "Give another --out, or delete that folder if its results are not needed. "
        "(Arms, tasks and seeds may be added to a study, but not changed or taken away.)"
    )


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
