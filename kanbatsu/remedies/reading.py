"""How a table of a study file, or words on a command line, become remedies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kanbatsu.files.tables import RecordError, did_you_mean, from_dict, parse_override
from kanbatsu.ranges import check_ranges
from kanbatsu.remedies.records import KINDS, Remedy


def read_remedies(value: Any, where: str = "remedy") -> tuple[Remedy, ...]:
    """Read one remedy, or a list of them.

    Args:
        value: a table with a `kind`, or a list of such tables.
        where: name of the setting in messages.

    Raises:
        RecordError: One line per mistake.

    Example:
        >>> read_remedies({"kind": "reset", "every": 200_000})[0].mask
        'kept'
        >>> read_remedies({"kind": "rest", "every": 200_000})
        Traceback (most recent call last):
        ...
        kanbatsu.files.tables.RecordError: remedy.kind: unknown remedy 'rest'. Did you mean 'reset'?
    """
    tables = list(value) if isinstance(value, list | tuple) else [value]
    single = len(tables) == 1
    names = [where if single else f"{where}[{at}]" for at in range(len(tables))]
    problems: list[str] = []
    read: list[Remedy] = []
    for table, name in zip(tables, names, strict=True):
        try:
            read.append(_read(table, name))
        except ValueError as error:
            problems.append(str(error))
    kinds = [remedy.kind for remedy in read]
    twice = sorted({kind for kind in kinds if kinds.count(kind) > 1})
    problems += [f"{where}: {kind} is there more than once; give it once" for kind in twice]
    if problems:
        raise RecordError("\n".join(problems))
    return tuple(read)


def _read(table: Any, where: str) -> Remedy:
    if not isinstance(table, Mapping) or "kind" not in table:
        raise RecordError(
            f'{where}: must be a table such as {{ kind = "reset", every = 200_000 }}, not {table!r}'
        )
    kind = table["kind"]
    if kind not in KINDS:
        raise RecordError(
            f"{where}.kind: unknown remedy {kind!r}. {did_you_mean(str(kind), KINDS)}"
        )
    remedy: Remedy = from_dict(KINDS[kind], table, where)
    check_ranges(remedy, f"{where}.")
    return remedy


def remedy_in_words(words: str) -> dict[str, Any]:
    """Return the table of a remedy that is written on a command line, for `read_remedies`.

    Args:
        words: a kind, and settings as `KEY=VALUE`.

    Raises:
        RecordError: A setting has no `=`.

    Example:
        >>> remedy_in_words("reset every=200_000 of=critic")
        {'kind': 'reset', 'every': 200000, 'of': 'critic'}
    """
    kind, *settings = words.split() or [""]
    return {"kind": kind} | {".".join(key): value for key, value in map(parse_override, settings)}
