"""A study without what only training needs: small enough to be kept in a repository."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kanbatsu.files.disk import finite
from kanbatsu.files.store import RunFolder, StudyFolder
from kanbatsu.report.results import read_study
from kanbatsu.report.summary import summarise, summarise_timing

KINDS = ("networks", "evaluation", "probe")
"""Lines of `metrics.jsonl` that are kept: all that summaries and figures are made of."""


class ArchiveError(ValueError):
    """A copy that would spoil what is there; the message says what to do."""


def archive(out: Path, target: Path) -> int:
    """Copy what is finished of a study, without checkpoints, losses and training episodes.

    The copy is a study's folder, with all runs in one file: `kanbatsu report` reads it, and
    `kanbatsu study` with the same file trains what is missing in it. A run that failed is a result
    and is copied too, without its traceback. Runs that are in the target already stay there, so
    that a study may be collected from several machines, and one that is finished there is not
    replaced by one that failed elsewhere.

    Args:
        out: The folder that `kanbatsu study --out` wrote.
        target: Where the copy goes; made where there is none.

    Returns:
        How many runs were copied.

    Raises:
        FileNotFoundError: `out` holds no study.
        ArchiveError: `target` is `out`, or holds another study.
    """
    if out.resolve() == target.resolve():
        raise ArchiveError(f"{out} would be copied onto itself: name another folder")
    source, copy = StudyFolder(out), StudyFolder(target)
    record = source.read_study()
    if copy.holds_study and copy.read_study()["hash"] != record["hash"]:
        raise ArchiveError(f"{target} holds another study than {out}: name another folder")
    copy.write_study(record)
    ended = {
        run.run_id: _contents(source.run_folder(run.run_id))
        for run in read_study(out).runs
        if run.state == "finished"
        or (run.state == "failed" and not copy.run_folder(run.run_id).finished)
    }
    copy.write_archive({**copy.archive, **ended})
    study = read_study(target)
    copy.write_summary(finite(summarise(study)))
    copy.write_timing(finite(summarise_timing(study)))
    return len(ended)


def _contents(run: RunFolder) -> dict[str, Any]:
    """Return what is kept of a run, as `kanbatsu.files.archive.PARTS` names it."""
    status = run.read_status()
    return {
        "config": run.read_config(),
        "status": status and {**status, "traceback": None},
        "machine": run.machine(),
        "timing": _one_line(run.timing()),
        "metrics": [record for record in run.metrics() if record["kind"] in KINDS],
    }


def _one_line(timing: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the last line of a run's times, with the median of all its updates.

    Example:
        >>> _one_line([{"seconds": 1.0, "update_milliseconds": 4.0}, {"seconds": 2.0}])
        [{'seconds': 2.0, 'update_milliseconds': 4.0}]
    """
    known = [line["update_milliseconds"] for line in timing if line.get("update_milliseconds")]
    median = statistics.median(known) if known else None
    return [{**line, "update_milliseconds": median} for line in timing[-1:]]
