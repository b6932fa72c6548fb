"""The table "what it replaces" in words: remedies alone, the mask alone, and both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from kanbatsu.report.language import Texts
from kanbatsu.report.words import DASH, compact, round_to, with_interval


class Cell(NamedTuple):
    """What stands in a cell: a value, and in small what belongs to it."""

    value: str
    beside: str = ""


class Row(NamedTuple):
    """A line of the table."""

    name: str
    cells: tuple[Cell, ...]


class Table(NamedTuple):
    """A table of one task: of results, or of what they cost."""

    task: str
    """Name of the task, above the first of its tables, where there are several."""
    columns: tuple[Cell, ...]
    """Titles of the columns after the first."""
    rows: tuple[Row, ...]


class Section(NamedTuple):
    """The tables of a study, two for each task, and how they are to be read."""

    tables: tuple[Table, ...]
    how: str


def section(rivals: Mapping[str, Any], t: Texts) -> Section:
    """Return the tables of a study that compares remedies with a mask.

    Args:
        rivals: What `kanbatsu.report.rivals.rivals` returned.
        t: The texts.
    """
    several, tables = len(rivals["tasks"]) > 1, []
    columns = _result_columns(rivals, t), _cost_columns(t)
    for task, on in rivals["tasks"].items():
        rows = list(_rows(rivals, on, t))
        tables += [
            Table(task if several else "", columns[0], tuple(row for row, _ in rows)),
            Table("", columns[1], tuple(row for _, row in rows)),
        ]
    return Section(tuple(tables), _how(rivals, t))


def _how(rivals: Mapping[str, Any], t: Texts) -> str:
    """Say how doses were chosen, and what the intervals and the costs mean."""
    levels = [f"{100 * rivals['confidence'][column]:.4g}" for column in ("alone", "both")]
    return t(
        "replaces.how",
        choosing=t.listed([str(seed) for seed in rivals["choosing"]]),
        comparing=t.count("seeds", len(rivals["comparing"])),
        masked=rivals["masked"],
        alone=levels[0],
        both=levels[1],
    )


def _result_columns(rivals: Mapping[str, Any], t: Texts) -> tuple[Cell, ...]:
    less = t("replaces.less", masked=rivals["masked"])
    return tuple(
        Cell(t(f"replaces.{name}"), beside)
        for name, beside in (
            ("alone", t("replaces.dose")),
            ("alone_less", less),
            ("both", t("replaces.dose")),
            ("both_less", less),
        )
    )


def _cost_columns(t: Texts) -> tuple[Cell, ...]:
    return tuple(
        Cell(t(name), t(side))
        for name in ("column.kept", "replaces.flops")
        for side in ("replaces.alone", "replaces.both")
    )


def _rows(rivals: Mapping[str, Any], on: Mapping[str, Any], t: Texts) -> Iterator[tuple[Row, Row]]:
    """Yield each remedy's results, and what they cost; before them those of no remedy."""
    nothing = {"dose": "", "difference": None, "interval": None}
    dense, masked = ({**on[name], **nothing, "arm": rivals[name]} for name in ("dense", "masked"))
    first = {"remedy": t("replaces.without"), "alone": dense, "both": masked}
    for row in (first, *on["rows"]):
        sides = row["alone"], row["both"]
        results = [cell for side in sides for cell in _results(side, t)]
        costs = [cell(side, t) for cell in (_kept, _flops) for side in sides]
        yield Row(row["remedy"], tuple(results)), Row(row["remedy"], tuple(costs))


def _results(side: Mapping[str, Any] | None, t: Texts) -> tuple[Cell, Cell]:
    """Return the result of a remedy at its best dose, and how far it is from the mask alone."""
    if side is None:
        return Cell(DASH), Cell("")
    mean = DASH if side["mean"] is None else round_to(side["mean"])
    return Cell(mean, side["dose"] or side["arm"]), _difference(side, t)


def _difference(side: Mapping[str, Any], t: Texts) -> Cell:
    """Say how far a remedy is from the mask alone; nothing where there is nothing to compare."""
    if side["difference"] is None:
        return Cell("")
    interval = side["interval"]
    text = "+" * (side["difference"] > 0) + with_interval(side["difference"], interval)
    if interval is None:
        return Cell(text, t("comparison.few.word"))
    kind = "better" if interval[0] > 0 else "worse" if interval[1] < 0 else "same"
    return Cell(text, t(f"comparison.{kind}.word"))


def _kept(side: Mapping[str, Any] | None, t: Texts) -> Cell:
    return Cell(DASH) if side is None else over_time(side["kept"], t)


def over_time(kept: Mapping[str, float | int | None], t: Texts) -> Cell:
    """Write kept weights: at the end, and where they have changed, at first and on average too.

    Args:
        kept: `first`, `end` and `mean`.
        t: The texts.

    Example:
        >>> from kanbatsu.report.language import texts
        >>> over_time({"first": 100, "end": 10, "mean": 31.0}, texts("en"))
        Cell(value='10', beside='100 at first, 31 on average')
    """
    first, end, mean = (kept[key] for key in ("first", "end", "mean"))
    if first is None or end is None or mean is None:
        return Cell(DASH)
    if first == end == mean:
        return Cell(f"{end:,.0f}")
    return Cell(f"{end:,.0f}", t("kept.over_time", first=f"{first:,.0f}", mean=f"{mean:,.0f}"))


def _flops(side: Mapping[str, Any] | None, t: Texts) -> Cell:
    if side is None or side["flops"] is None:
        return Cell(DASH)
    needed = side["needed"]
    beside = "" if needed is None else t("replaces.needed", flops=compact(needed))
    return Cell(compact(side["flops"]), beside)


def changed(network: Mapping[str, Any], t: Texts) -> str:
    """Say what a network kept before the end; nothing where it kept as many throughout."""
    kept: Sequence[Any] = [network.get(key) for key in ("kept_first", "kept", "kept_mean")]
    if None in kept:
        return ""
    return over_time(dict(zip(("first", "end", "mean"), kept, strict=True)), t).beside
