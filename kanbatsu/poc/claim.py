"""Which plan a folder of a proof of concept belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kanbatsu.files.disk import read_json, write_json
from kanbatsu.files.lock import StudyError
from kanbatsu.files.tables import canonical_hash, to_dict
from kanbatsu.poc.plan import Poc
from kanbatsu.report.language import flatten
from kanbatsu.report.stages import PLAN
from kanbatsu.study.plan import Study, study_record

DECIDES = ("tasks", "seeds", "env_steps", "arms", "control", "decision")
"""Keys of a study's record that a plan may not change."""

SHOWN_CHANGES = 8
"""Changes that are listed when a folder holds another plan."""


def claim(poc: Poc, study: Study, out: Path) -> None:
    """Write down which plan a folder holds; refuse another one.

    Raises:
        StudyError: It holds another plan.
    """
    record = study_record(study, "")
    decides = {
        "study": {key: record[key] for key in DECIDES},
        "search": to_dict(poc.search),
        "stop": to_dict(poc.stop),
        "seed": poc.seed,
    }
    path = out / PLAN
    words = {"text": record["text"]} if "text" in record else {}
    plan = {"hash": canonical_hash(decides), "question": study.question, **words, **decides}
    if path.exists() and (changed := _changes(read_json(path), decides)):
        shown = "".join(f"\n  {line}" for line in changed[:SHOWN_CHANGES])
        more = len(changed) - SHOWN_CHANGES
        raise StudyError(
            f"{out} holds another plan: what decides its results has changed.{shown}"
            + (f"\n  and {more} more" if more > 0 else "")
            + "\nGive another --out, or delete that folder if its results are not needed. "
            "(Hours and workers may change.)"
        )
    write_json(path, plan)


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Say what decides and is not the same in two plans, a line each; run ids follow from it."""
    before, after = (
        {
            key.removeprefix("study."): value
            for key, value in flatten({name: plan.get(name) for name in new})
            if ".runs." not in key
        }
        for plan in (old, new)
    )
    return [
        f"{key}: {before.get(key)} there, {after.get(key)} here"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]
