"""A study in the words of one language, where its file gives them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from kanbatsu.report.language import Language
from kanbatsu.report.results import StudyResults


def worded(study: StudyResults, lang: Language) -> StudyResults:
    """Return a study with its question and note in one language, as far as its file gives them."""
    own = study.text.get(lang) or {}
    return dataclasses.replace(
        study,
        question=own.get("question") or study.question,
        note=own.get("note") or study.note,
    )


def titles(study: StudyResults, lang: Language) -> Mapping[str, str]:
    """Return the names of arms for readers in one language, by their names in the study."""
    return (study.text.get(lang) or {}).get("arm") or {}
