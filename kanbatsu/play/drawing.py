"""Lines, letters and bars on a picture: what all scenes draw with."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw, ImageFont

PAPER, INK, GREY, FAINT = (255, 255, 255), (34, 34, 34), (120, 120, 120), (225, 225, 225)
COLOURS = ((31, 119, 180), (230, 120, 20), (44, 140, 60), (150, 90, 170), (140, 86, 75))
"""Colours of the lines of a chart, in turn; from Matplotlib's ten, two of them darker."""


@functools.cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return the letters that Pillow brings along."""
    return ImageFont.load_default(size)


def blank(size: tuple[int, int]) -> Image.Image:
    """Return an empty picture, `(width, height)` in pixels."""
    return Image.new("RGB", size, PAPER)


def write(
    picture: Image.Image,
    at: tuple[int, int],
    text: str,
    size: int = 12,
    colour: tuple[int, int, int] = INK,
) -> None:
    """Write a line of text whose upper left corner is `at`, cut off at the picture's edge."""
    draw, letters = ImageDraw.Draw(picture), font(size)
    room = picture.width - at[0] - 4
    if draw.textlength(text, font=letters) > room:
        while text and draw.textlength(text + "...", font=letters) > room:
            text = text[:-1]
        text += "..."
    draw.text(at, text, fill=colour, font=letters)


def plot(
    picture: Image.Image,
    box: tuple[int, int, int, int],
    title: str,
    lines: Mapping[str, Sequence[float]],
    along: int,
) -> None:
    """Draw lines over time into a part of a picture, with their names and the axis' ends.

    Args:
        picture: drawn on.
        box: left, top, right and bottom, in pixels.
        title: words above.
        lines: values by name, one for each interaction so far.
        along: interactions that the width stands for.
    """
    left, top, right, bottom = box
    draw, letters = ImageDraw.Draw(picture), font(10)
    values = [value for line in lines.values() for value in line]
    least, most = min([0.0, *values]), max([0.0, *values])
    most = most if most > least else least + 1.0
    frame = (left + 34, top + 16, right - 6, bottom - 4)

    def height(value: float) -> float:
        return frame[3] - (value - least) / (most - least) * (frame[3] - frame[1])

    draw.rectangle(frame, outline=FAINT)
    draw.line([(frame[0], height(0.0)), (frame[2], height(0.0))], fill=GREY)
    for value in (least, most):
        text = f"{value:.3g}"
        wide = draw.textlength(text, font=letters)
        draw.text((frame[0] - 4 - wide, height(value) - 6), text, fill=GREY, font=letters)
    at = left + 34 + draw.textlength(title, font=letters) + 10
    draw.text((left + 34, top + 2), title, fill=INK, font=letters)
    for number, (name, line) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        draw.text((at, top + 2), name, fill=colour, font=letters)
        at += draw.textlength(name, font=letters) + 8
        step = (frame[2] - frame[0]) / max(along - 1, 1)
        points = [(frame[0] + place * step, height(value)) for place, value in enumerate(line)]
        if len(points) > 1:
            draw.line(points, fill=colour, width=2)
        elif points:
            draw.point(points, fill=colour)
