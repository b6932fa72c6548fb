"""Which study a folder holds: a new one, the same one, or the same one grown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kanbatsu.files.disk import DamagedFile
from kanbatsu.files.lock import StudyError
from kanbatsu.files.store import StudyFolder

SHOWN_DIFFERENCES = 8
"""Settings that are listed when a folder holds a different study."""


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
    flat = _flatten(rule, "decision.") | {"control": record.get("control")}
    # A key that older records do not have asks for nothing where it is None.
    return {key: value for key, value in flat.items() if value is not None}


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
