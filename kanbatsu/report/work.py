"""Arms at work: the pictures that `kanbatsu play --video` left beside a study's results."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from kanbatsu.report.language import Texts
from kanbatsu.report.words import round_to

MOST_CHARACTERS = 300_000
"""Largest size of a picture in the page."""
IMAGE = re.compile("data:image/jpeg;base64,[A-Za-z0-9+/=]+")
"""Addresses that hold their picture, so that the page still loads nothing."""


def at_work(
    pictures: Sequence[Mapping[str, Any]], names: Mapping[str, str], t: Texts
) -> list[dict[str, str]]:
    """Return what the page shows of each arm at work.

    Args:
        pictures: As they were stored; what is too large, no picture, or of no arm, is left out.
        names: Names of the arms on the page, by those of the study.
        t: The texts.

    Returns:
        Name, caption and address of each picture.

    Example:
        >>> from kanbatsu.report.language import texts
        >>> at_work([], {"dense": "dense"}, texts("en"))
        []
    """
    return [
        {
            "arm": names[picture["arm"]],
            "caption": t(
                "play.caption",
                task=picture["task"],
                seed=picture["seed"],
                value=round_to(picture["return"]),
                interactions=f"{picture['interactions']:,}",
            ),
            "image": picture["image"],
        }
        for picture in pictures
        if picture["arm"] in names
        and len(picture["image"]) <= MOST_CHARACTERS
        and IMAGE.fullmatch(picture["image"])
    ]
