"""The table "what it replaces" in words: remedies alone, the mask alone, and both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    """The results on one task."""

    task: str
    """Name of the task, where there are several."""
    rows: tuple[Row, ...]


class Section(NamedTuple):
    """The tables of a study, one for each task, and how they are to be read."""

    columns: tuple[Cell, ...]
    """Titles of the columns after the first."""
    tables: tuple[Table, ...]
    how: str


def section(rivals: Mapping[str, Any], t: Texts) -> Section:
    """Return the tables of a study that compares remedies with a mask.

    Args:
        rivals: What `kanbatsu.report.rivals.rivals` returned.
        t: The texts.
    """
    several = len(rivals["tasks"]) > 1
    tables = (
        Table(task if several else "", tuple(_rows(rivals, on, t)))
        for task, on in rivals["tasks"].items()
    )
    return Section(tuple(_columns(rivals, t)), tuple(tables), _how(rivals, t))


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


def _columns(rivals: Mapping[str, Any], t: Texts) -> list[Cell]:
    """Return the titles of the columns."""
    less = t("replaces.less", masked=rivals["masked"])
    return [
        Cell(t("replaces.alone"), t("replaces.dose")),
        Cell(t("replaces.alone_less"), less),
        Cell(t("replaces.both"), t("replaces.dose")),
        Cell(t("replaces.both_less"), less),
        Cell(t("column.kept"), t("replaces.alone")),
        Cell(t("column.kept"), t("replaces.both")),
        Cell(t("replaces.flops"), t("replaces.alone")),
        Cell(t("replaces.flops"), t("replaces.both")),
    ]


def _rows(rivals: Mapping[str, Any], on: Mapping[str, Any], t: Texts) -> list[Row]:
    nothing = {"dose": "", "difference": None, "interval": None}
    dense, masked = ({**on[name], **nothing, "arm": rivals[name]} for name in ("dense", "masked"))
    first = {"remedy": t("replaces.without"), "alone": dense, "both": masked}
    return [
        Row(row["remedy"], tuple(_cells(row["alone"], row["both"], t)))
        for row in (first, *on["rows"])
    ]


def _cells(alone: Mapping[str, Any] | None, both: Mapping[str, Any] | None, t: Texts) -> list[Cell]:
    sides = (alone, both)
    cells = []
    for side in sides:
        if side is None:
            cells += [Cell(DASH), Cell("")]
            continue
        mean = DASH if side["mean"] is None else round_to(side["mean"])
        cells.append(Cell(mean, side["dose"] or side["arm"]))
        cells.append(_difference(side, t))
    return [*cells, *(_kept(side, t) for side in sides), *(_flops(side, t) for side in sides)]


def _difference(side: Mapping[str, Any], t: Texts) -> Cell:
    """Say how far a remedy is from the mask alone; nothing where there is nothing to compare."""
    if side["difference"] is None:
        return Cell("")
    text, interval = with_interval(side["difference"], side["interval"]), side["interval"]
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
