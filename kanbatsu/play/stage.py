"""A frame: players side by side, each with its numbers and the dormant units of its networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from PIL import Image, ImageDraw

from kanbatsu.play.drawing import FAINT, GREY, INK, blank, write
from kanbatsu.play.episode import Moment
from kanbatsu.play.scenes import SIZE

HEADER, ROW, LABEL = 38, 16, 92
"""Heights of the lines above a scene and of a row of the strip, and where its cells begin."""
WORST = 0.5
"""Share of dormant units from which the colour of the strip is fullest."""


@dataclass
class Column:
    """One player's part of a frame."""

    name: str
    """Name above the scene."""
    along: int
    """Interactions that the width of the strip stands for."""
    picture: Image.Image = field(default_factory=lambda: blank(SIZE))
    """Scene as it was drawn last."""
    last: Moment | None = None
    """Moment that was seen last."""
    shares: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    """Shares of dormant units by network, each with its interaction."""

    def see(self, moment: Moment) -> None:
        """Take note of a moment."""
        if moment.interaction == 1:
            self.shares = {}
        self.last = moment
        for network, share in moment.dormant.items():
            seen = self.shares.setdefault(network, [])
            if not seen or seen[-1][1] != share or moment.over:
                seen.append((moment.interaction, share))


def height_of(networks: int) -> int:
    """Return the height of a frame, an even number of pixels, as films want it."""
    return HEADER + SIZE[1] + ROW * networks + ROW % 2 + 2


def frame(columns: Sequence[Column], networks: int) -> Image.Image:
    """Draw one frame.

    Args:
        columns: players from left to right.
        networks: rows of the strip.

    Returns:
        A picture of `SIZE[0]` pixels for each column, and `height_of(networks)` high.
    """
    whole = blank((SIZE[0] * len(columns), height_of(networks)))
    for at, column in enumerate(columns):
        whole.paste(_drawn(column, networks), (at * SIZE[0], 0))
    return whole


def _drawn(column: Column, networks: int) -> Image.Image:
    part = blank((SIZE[0], height_of(networks)))
    write(part, (6, 3), column.name, 14)
    if (last := column.last) is not None:
        ended = "   ended" if last.over else ""
        text = f"interaction {last.interaction}   return {last.total:.1f}{ended}"
        write(part, (6, 21), text, 12, GREY)
    part.paste(column.picture, (0, HEADER))
    for row, (network, shares) in enumerate(column.shares.items()):
        _strip(part, HEADER + SIZE[1] + row * ROW, network, shares, column)
    return part


def _strip(
    part: Image.Image, top: int, network: str, shares: Sequence[tuple[int, float]], column: Column
) -> None:
    """Draw the dormant units of a network over the episode, the fuller the colour the more."""
    draw, wide = ImageDraw.Draw(part), SIZE[0] - LABEL - 6
    now = column.last.interaction if column.last else 0
    draw.rectangle((LABEL, top + 3, LABEL + wide, top + ROW - 2), outline=FAINT)
    ends = [interaction for interaction, _ in shares[1:]] + [now]
    for (begin, share), end in zip(shares, ends, strict=True):
        left, right = (LABEL + wide * at / max(column.along, now, 1) for at in (begin, end))
        fade = 1.0 - min(share / WORST, 1.0)
        colour = (200 + round(55 * fade), 40 + round(200 * fade), 40 + round(200 * fade))
        draw.rectangle((left, top + 3, max(right, left + 1), top + ROW - 2), fill=colour)
    write(part, (6, top + 2), f"dormant {network[:6]}", 10, GREY)
    draw.text((LABEL + 4, top + 2), f"{shares[-1][1]:.0%}", fill=INK)
