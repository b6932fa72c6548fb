"""Rows of results for notebooks: dictionaries that print as a table, and a data frame of them."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, overload

from kanbatsu.report.shell import visible
from kanbatsu.report.words import DASH, round_to

SHOWN = 20
"""Rows of a longer table that are printed."""


class Records(Sequence[Mapping[str, Any]]):
    """Rows of a table: a sequence of dictionaries with equal keys.

    It prints as a table, in a notebook as one in HTML. What is not known is None.

    Args:
        rows: Dictionaries with equal keys.

    Example:
        >>> records = Records([{"arm": "dense", "kept": 71_680}, {"arm": "sparse", "kept": 7_168}])
        >>> records
        arm       kept
        dense   71,680
        sparse   7,168
        >>> records[1]["kept"], [row["arm"] for row in records]
        (7168, ['dense', 'sparse'])
        >>> records.frame().kept.sum()
        np.int64(78848)
    """

    def __init__(self, rows: Iterable[Mapping[str, Any]]) -> None:
        self._rows = tuple(dict(row) for row in rows)

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Mapping[str, Any]: ...

    @overload
    def __getitem__(self, index: slice) -> Records: ...

    def __getitem__(self, index: int | slice) -> Mapping[str, Any] | Records:
        return Records(self._rows[index]) if isinstance(index, slice) else self._rows[index]

    def frame(self) -> Any:
        """Return the rows as a data frame of pandas.

        Returns:
            A `pandas.DataFrame`, with a column for each key.

        Raises:
            ModuleNotFoundError: pandas is not installed.
        """
        try:
            pandas = importlib.import_module("pandas")
        except ModuleNotFoundError as error:
            if error.name != "pandas":
                raise
            raise ModuleNotFoundError(
                "a data frame needs pandas: pip install pandas; or use the rows as they are, a "
                "sequence of dictionaries",
                name="pandas",
            ) from error
        return pandas.DataFrame(list(self._rows))

    def __repr__(self) -> str:
        if not self._rows:
            return "no rows"
        columns = [
            [name, *(cell(row[name]) for row in self._rows[:SHOWN])] for name in self._rows[0]
        ]
        aligned = [
            [text.rjust(width) if right else text.ljust(width) for text in column]
            for column, right in zip(columns, self._numeric(), strict=True)
            for width in [max(map(len, column))]
        ]
        lines = ["  ".join(row).rstrip() for row in zip(*aligned, strict=True)]
        return visible("\n".join([*lines, *self._left_out()]))

    def _repr_html_(self) -> str:
        if not self._rows:
            return "<p>no rows</p>"
        sides = ["right" if numeric else "left" for numeric in self._numeric()]
        head = "".join(
            f'<th style="text-align: {side}">{escape(name)}</th>'
            for name, side in zip(self._rows[0], sides, strict=True)
        )
        body = "".join(
            "<tr>"
            + "".join(
                f'<td style="text-align: {side}">{escape(cell(value))}</td>'
                for value, side in zip(row.values(), sides, strict=True)
            )
            + "</tr>"
            for row in self._rows[:SHOWN]
        )
        more = "".join(f"<p>{line}</p>" for line in self._left_out())
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        return visible(table + more)

    def _numeric(self) -> list[bool]:
        """Say of each column whether it holds numbers."""
        return [
            any(isinstance(row[name], int | float) for row in self._rows) for name in self._rows[0]
        ]

    def _left_out(self) -> list[str]:
        return [f"... {len(self):,} rows in all"] if len(self) > SHOWN else []


def cell(value: Any) -> str:
    """Write a value of a table.

    Example:
        >>> [cell(value) for value in (71_680, 0.93412, None, "dense", True)]
        ['71,680', '0.93', '–', 'dense', 'yes']
    """
    if value is None:
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return round_to(value) if isinstance(value, float) else str(value)
