"""One page over all stages of a proof of concept: how it ended, and where their reports are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kanbatsu.files.disk import read_json, replace
from kanbatsu.files.shape import Maybe
from kanbatsu.files.store import StudyFolder
from kanbatsu.report.first import FirstPage, first_page
from kanbatsu.report.language import Language, Texts, texts
from kanbatsu.report.reasons import size
from kanbatsu.report.shell import environment, visible

PLAN, VERDICT = "poc.json", "verdict.json"
"""Files of a proof of concept, beside the folders of its stages."""

CONFIRM = "confirm"
"""Stage that the verdict is taken from, unless the search was hopeless."""

ENDED = {
    "stage": str,
    "verdict": {
        "decision": str,
        "arm": str,
        "control": str,
        "effect": {"measure": str, "value": Maybe(float), "interval": Maybe([float])},
    },
    "search": [{"stage": str, "order": [str], "go_on": [str]}],
}
"""Shape of `verdict.json`, as far as the page reads it."""


def stages_in(out: Path) -> list[Path]:
    """Return the folders of the stages that were begun, in the order in which they run."""
    names = ["pilot", *sorted(path.name for path in out.glob("search-*")), CONFIRM]
    return [out / name for name in names if StudyFolder(out / name).holds_study]


def write_stages(out: Path, lang: Language = "en") -> Path:
    """Write the page over all stages that a folder of `kanbatsu poc run` holds.

    Args:
        out: The folder.
        lang: The page's language.

    Returns:
        Where the page is.
    """
    t = texts(lang)
    end = read_json(out / VERDICT, ENDED) if (out / VERDICT).exists() else None
    rounds = {each["stage"]: each for each in end["search"]} if end else {}
    rows = [
        {
            "name": t(f"stages.{path.name.partition('-')[0]}", stage=path.name),
            "page": f"{path.name}/{StudyFolder(path).report(lang).name}",
            "order": rounds[path.name]["order"] if path.name in rounds else [],
            "go_on": rounds[path.name]["go_on"] if path.name in rounds else [],
        }
        for path in stages_in(out)
    ]
    confirmed = end is not None and end["stage"] == CONFIRM
    first = _first(out / CONFIRM, t) if confirmed else None
    page = environment().get_template("stages.html.j2")
    plan = read_json(out / PLAN, {"question": str})
    question = (plan.get("text") or {}).get(lang, {}).get("question") or plan["question"]
    ended = None if end is None else {**end["verdict"], "found": _found(end["verdict"], t)}
    target = StudyFolder(out).report(lang)
    replace(
        target,
        visible(page.render(t=t, question=question, first=first, verdict=ended, stages=rows)),
    )
    return target


def _first(stage: Path, t: Texts) -> FirstPage | None:
    """Return the first page of the confirmation, from its summary; None where it has none yet."""
    if not (stage / "summary.json").exists():
        return None
    summary, timing = read_json(stage / "summary.json"), read_json(stage / "timing.json")
    if (verdict := summary["verdict"]) is None:
        return None
    own = (StudyFolder(stage).read_study().get("text") or {}).get(t.language) or {}
    return first_page(verdict, summary, timing, t, own.get("arm"))


def _found(verdict: Mapping[str, Any], t: Texts) -> str:
    """Write the effect and its interval, as far as they are known."""
    effect = verdict["effect"]
    names = {"arm": verdict["arm"], "control": verdict["control"]}
    if effect["value"] is None or effect["interval"] is None:
        return t("team.no_interval", **names)
    low, high = (size(end, effect["measure"], t) for end in effect["interval"])
    value = size(effect["value"], effect["measure"], t)
    return t(
        "stages.effect", measure=t(f"measure.{effect['measure']}"), value=value, low=low, high=high
    )
