"""The picture of each stored study: returns, and the inside of the critic.

One file per study: a row for each task, learning curves on the left and the critic's dormant ratio
on the right, in the looks that reports give the arms. The text is text, and nothing points outside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from html import escape

from kanbatsu.report import curves, figures
from kanbatsu.report.evidence.replaced import drawn
from kanbatsu.report.evidence.stored import ENGLISH, Evidence, is_bench, steps
from kanbatsu.report.figures import Style
from kanbatsu.report.results import RunResults, Series, StudyResults
from kanbatsu.report.rivals import rivals
from kanbatsu.report.svg import ABOVE, BELOW, WIDTH

SERIES: dict[str, Callable[[RunResults], Series]] = {
    "Return": lambda run: run.returns,
    "Dormant ratio of the critic": lambda run: run.probes.get("critic/dormant_0.1", {}),
}
"""What the panels of a task show, from left to right."""
BENCH: dict[str, Callable[[RunResults], Series]] = {
    "Accuracy": lambda run: run.returns,
    "Dormant ratio": lambda run: run.probes.get("classifier/dormant_0.1", {}),
}
"""The same of tasks whose labels are drawn anew, which a classifier learns."""
GAP, TITLE, LEGEND = 28, 26, 26
"""Pixels between panels, in the height of a panel's title, and in that of a row of the legend."""
LETTER = 7.5
"""Width of a letter in the legend, on the safe side: whoever shows the file chooses the font."""
PANEL = figures.HEIGHT + ABOVE + BELOW
WHOLE = len(SERIES) * (WIDTH + GAP) + GAP
PAPER, INK = "#fdfdfb", "#1e2328"


def draw(evidence: Evidence) -> str:
    """Return the picture of one study as a document of its own."""
    found = rivals(evidence.study)
    study = drawn(evidence.study, found) if found else evidence.study
    bottom = GAP // 2 + len(study.tasks) * (TITLE + PANEL + GAP)
    legend, height = _legend(curves.styles(study), bottom)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WHOLE} {height}" width="{WHOLE}" '
        f'height="{height}" color="{INK}" font-family="system-ui, sans-serif" font-size="13">\n'
        f"<title>{escape(evidence.title)}</title>\n"
        f'<rect width="{WHOLE}" height="{height}" rx="8" fill="{PAPER}"/>\n'
        + "\n".join([*_panels(study), *legend])
        + "\n</svg>\n"
    )


def _panels(study: StudyResults) -> Iterator[str]:
    """Give title and drawing of each panel, in their places."""
    for index, task in enumerate(study.tasks):
        y = GAP + index * (TITLE + PANEL + GAP)
        for column, (title, series_of) in enumerate((BENCH if is_bench(study) else SERIES).items()):
            x = GAP + column * (WIDTH + GAP)
            drawing = figures.lines(
                curves.lines(study, [task], series_of),
                x_label=steps(study),
                prefix=f"{title[0].lower()}{index}",
                label=f"{title} over {steps(study)} on {task}",
                empty=ENGLISH("figure.empty"),
            )
            yield _text(x, y + 14, f"{title}, {task}", ' font-weight="600"')
            yield _placed(drawing, x, y + TITLE, WIDTH, PANEL)


def _legend(looks: Mapping[str, Style], y: int) -> tuple[list[str], int]:
    """Return the arms' names beside their marks, and where the picture ends."""
    parts, x = list[str](), float(GAP)
    for name, style in looks.items():
        wide = 36 + LETTER * len(name) + 20
        if x > GAP and x + wide > WHOLE:
            x, y = float(GAP), y + LEGEND
        parts += [_placed(figures.key(style), x, y, 28, 14), _text(x + 36, y + 12, name)]
        x += wide
    return parts, y + LEGEND + 4


def _placed(svg: str, x: float | int, y: int, width: int, height: int) -> str:
    """Put an `<svg>` element somewhere in another; a number at an axis' end may reach beyond it."""
    place = f'x="{x:g}" y="{y:g}" width="{width}" height="{height}" overflow="visible"'
    return svg.replace("<svg", f"<svg {place}", 1)


def _text(x: float | int, y: int, text: str, weight: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}" fill="currentColor"{weight}>{escape(text)}</text>'
