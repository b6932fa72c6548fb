"""Draw docs/evidence/<study>.svg from the stored studies: returns, and the inside of the critic.

    make evidence

One file per study: a row for each task, learning curves on the left and the critic's dormant ratio
on the right, in the looks that reports give the arms. The text is text, and nothing points outside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from pages import ENGLISH, Evidence, read, write_only

from kanbatsu.report import curves, figures
from kanbatsu.report.figures import Line, Style
from kanbatsu.report.results import RunResults, Series, StudyResults
from kanbatsu.report.svg import ABOVE, BELOW, WIDTH

HERE = Path(__file__).parent
DORMANT = "critic/dormant_0.1"
GAP, TITLE, LEGEND = 28, 26, 26
"""Between panels; height of a panel's title, and of a row of the legend."""
LETTER = 7.5
"""Width of a letter in the legend, on the safe side: whoever shows the file chooses the font."""
PAPER, INK = "#fdfdfb", "#1e2328"


def main() -> None:
    """Draw every study; remove the pictures of studies that are gone."""
    write_only(draw_all(HERE), "*.svg")


def draw_all(root: Path) -> dict[str, str]:
    """Return every picture by its file's name."""
    stored = [read(path.parent) for path in sorted(root.glob("*/study.json"))]
    return {f"{evidence.name}.svg": draw(evidence) for evidence in stored}


def draw(evidence: Evidence) -> str:
    """Return the picture of one study as a document of its own."""
    study, looks = evidence.study, curves.styles(evidence.study)
    whole = 2 * WIDTH + 3 * GAP
    panel_height = figures.HEIGHT + ABOVE + BELOW
    parts, y = [], GAP
    for index, task in enumerate(study.tasks):
        for column, (title, svg) in enumerate(_panels(study, task, looks, index)):
            x = GAP + column * (WIDTH + GAP)
            parts.append(_text(x, y + 14, f"{title}, {task}", bold=True))
            parts.append(_placed(svg, x, y + TITLE, WIDTH, panel_height))
        y += TITLE + panel_height + GAP
    legend, y = _legend(looks, y - GAP // 2, whole)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {whole} {y}" width="{whole}" '
        f'height="{y}" color="{INK}" font-family="system-ui, sans-serif" font-size="13">\n'
        f"<title>{escape(evidence.notes.title)}</title>\n"
        f'<rect width="{whole}" height="{y}" rx="8" fill="{PAPER}"/>\n'
        + "\n".join([*parts, *legend])
        + "\n</svg>\n"
    )


def _panels(
    study: StudyResults, task: str, looks: Mapping[str, Style], index: int
) -> list[tuple[str, str]]:
    """Return title and drawing of the two panels of a task."""

    def returns(run: RunResults) -> Series:
        return run.returns

    def dormant(run: RunResults) -> Series:
        return run.probes.get(DORMANT, {})

    series = (("Return", returns), ("Dormant ratio of the critic", dormant))
    drawings = []
    for title, series_of in series:
        found = [curves.line([arm.on(task)], series_of, looks[arm.name]) for arm in study.arms]
        drawings.append((title, _drawing(found, f"{title[0].lower()}{index}", title, task)))
    return drawings


def _drawing(found: Sequence[Line | None], prefix: str, title: str, task: str) -> str:
    return figures.lines(
        [curve for curve in found if curve is not None],
        x_label=ENGLISH("figure.env_steps"),
        prefix=prefix,
        label=f"{title} over env steps on {task}",
        empty=ENGLISH("figure.empty"),
    )


def _legend(looks: Mapping[str, Style], y: int, width: int) -> tuple[list[str], int]:
    """Return the arms' names beside their marks, and where the picture ends."""
    parts, x = [], float(GAP)
    for name, style in looks.items():
        wide = 36 + LETTER * len(name) + 20
        if x > GAP and x + wide > width:
            x, y = float(GAP), y + LEGEND
        parts += [_placed(figures.key(style), x, y, 28, 14), _text(x + 36, y + 12, name)]
        x += wide
    return parts, y + LEGEND + 4


def _placed(svg: str, x: float, y: float, width: int, height: int) -> str:
    """Put an `<svg>` element somewhere in another; a number at an axis' end may reach beyond it."""
    place = f'x="{x:g}" y="{y:g}" width="{width}" height="{height}" overflow="visible"'
    return svg.replace("<svg", f"<svg {place}", 1)


def _text(x: float, y: float, text: str, *, bold: bool = False) -> str:
    weight = ' font-weight="600"' if bold else ""
    return f'<text x="{x:g}" y="{y:g}" fill="currentColor"{weight}>{escape(text)}</text>'


if __name__ == "__main__":
    main()
