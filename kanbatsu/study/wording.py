"""What a report says of a study in another language: question, note and names of arms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kanbatsu.files.tables import RecordError, did_you_mean
from kanbatsu.report.language import LANGUAGES

TEXTS = ("question", "note")
"""Texts that each language may have of its own."""


@dataclass(frozen=True)
class Wording:
    """The study's own words in one language; what is left out is as in the study itself."""

    question: str | None = None
    """Question that the study is to answer."""
    note: str | None = None
    """Note to readers of the report."""
    arm: Mapping[str, str] = field(default_factory=dict)
    """Names of arms for readers, by their names in the study."""

    def table(self) -> dict[str, Any]:
        """Return what is given as a table."""
        given = {"question": self.question, "note": self.note, "arm": dict(self.arm)}
        return {key: value for key, value in given.items() if value}


def read_wordings(tables: Any, arms: Iterable[str]) -> dict[str, Wording]:
    """Read the `[text.LANGUAGE]` tables of a study file.

    Args:
        tables: Tables by language.
        arms: Names of the study's arms.

    Raises:
        RecordError: One line per mistake.

    Example:
        >>> table = {"ja": {"question": "小さい方で足りるか", "arm": {"dense": "現行"}}}
        >>> read_wordings(table, ["dense", "sparse"])["ja"].arm
        {'dense': '現行'}
        >>> read_wordings({"jp": {}}, [])
        Traceback (most recent call last):
        ...
        kanbatsu.files.tables.RecordError: text.jp: reports are written in en, ja. \
Did you mean 'ja'?
    """
    if not isinstance(tables, Mapping):
        raise RecordError(f"text: must be tables such as [text.ja], not {tables!r}")
    known, problems = list(arms), list[str]()
    for language, table in tables.items():
        where = f"text.{language}"
        if language not in LANGUAGES:
            hint = did_you_mean(language, LANGUAGES)
            problems.append(f"{where}: reports are written in {', '.join(LANGUAGES)}. {hint}")
        elif not isinstance(table, Mapping):
            problems.append(f"{where}: must be a table, not {table!r}")
        else:
            problems += _problems(table, where, known)
    if problems:
        raise RecordError("\n".join(problems))
    return {language: Wording(**table) for language, table in tables.items()}


def _problems(table: Mapping[str, Any], where: str, arms: list[str]) -> list[str]:
    names = table.get("arm", {})
    if not isinstance(names, Mapping):
        return [f"{where}.arm: must be a table of names, not {names!r}"]
    texts = {key: value for key, value in table.items() if key != "arm"}
    unknown = [
        f"{where}.{key}: unknown setting. {did_you_mean(key, (*TEXTS, 'arm'))}"
        for key in texts
        if key not in TEXTS
    ]
    strangers = [
        f"{where}.arm: no arm is called {name!r}. {did_you_mean(name, arms)}"
        for name in names
        if name not in arms
    ]
    flat = {**texts, **{f"arm.{name}": title for name, title in names.items()}}
    return [
        *unknown,
        *strangers,
        *(
            f"{where}.{key}: must be a string, not {value!r}"
            for key, value in flat.items()
            if type(value) is not str
        ),
    ]
