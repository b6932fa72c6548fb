"""A few pictures of an episode in a row, small enough to stand in a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

from PIL import Image

from kanbatsu.play.drawing import blank
from kanbatsu.report.work import MOST_CHARACTERS

PICTURES = 5
"""Pictures in a row."""
SMALL = (240, 180)
"""Width and height of each, in pixels."""


def strip(pictures: Sequence[Image.Image]) -> str:
    """Return pictures of an episode, evenly spaced, as one image that a page can hold.

    Args:
        pictures: in the order of time; those at equal distances are taken, with first and last.

    Returns:
        A JPEG as a data address, `data:image/jpeg;base64,...`, as large as the
        page takes.

    Example:
        >>> from PIL import Image
        >>> strip([Image.new("RGB", (320, 240))] * 9).partition(",")[0]
        'data:image/jpeg;base64'
    """
    count = min(PICTURES, len(pictures))
    places = [round(at * (len(pictures) - 1) / max(count - 1, 1)) for at in range(count)]
    row = blank((SMALL[0] * count, SMALL[1]))
    for at, place in enumerate(places):
        row.paste(pictures[place].resize(SMALL), (at * SMALL[0], 0))
    for quality in (85, 60, 35, 10):
        file = io.BytesIO()
        row.save(file, "JPEG", quality=quality)
        address = f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
        if len(address) <= MOST_CHARACTERS:
            break
    return address
