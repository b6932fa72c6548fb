"""What every page is made with: its templates, and names that cannot rearrange the text around."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import jinja2

CONTROLS = re.compile("[\u202a-\u202e\u2066-\u2069]")
"""Characters that turn the direction of the text after them, beyond the name that they stand in."""


@functools.cache
def environment() -> jinja2.Environment:
    """Return the templates of all pages."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def visible(html: str) -> str:
    r"""Write bidirectional control characters as their codes, so that they control nothing.

    A task or a file may come from a stranger: such a character in its name would make the numbers
    and words beside it read otherwise than they are.

    Example:
        >>> visible("dense\u202e9.0")
        'dense[U+202E]9.0'
    """
    return CONTROLS.sub(lambda found: f"[U+{ord(found[0]):04X}]", html)
