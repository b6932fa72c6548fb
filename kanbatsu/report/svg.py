"""Turn a matplotlib drawing into an SVG element that belongs to the page around it.

Text stays text in the page's font, axes take `currentColor` (one drawing serves light and dark),
ids are unique on the page, nothing points outside it, and equal drawings give equal bytes.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

WIDTH = 420
"""Width of a panel in the units of its text: at its natural size text is 12 CSS pixels."""

INK = "#010203"
"""Colour that stands for the page's text colour while matplotlib draws; becomes `currentColor`."""

LEFT, RIGHT, ABOVE, BELOW = 48, 12, 10, 42
"""Margins around the axes, equal in every panel so that axes line up across the page."""

# A setting's name is a literal type in recent matplotlib and a plain string before.
SETTINGS: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "kanbatsu",
    # A dollar in an arm's name is a dollar.
    "text.parse_math": False,
    "font.size": 12,
    "axes.labelsize": 12,
    "xtick.labelsize": 12,
    "ytick.labelsize": 12,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "grid.color"), INK),
    **dict.fromkeys(("xtick.color", "ytick.color"), INK),
}


def panel(draw: Callable[[Axes], None], height: int, prefix: str, label: str) -> str:
    """Return the `<svg>` element of what `draw` puts on quiet axes of `height` CSS pixels.

    Args:
        draw: Receives the axes.
        height: Height of the axes, without their labels.
        prefix: Starts every id in the element; different for each panel of a page.
        label: What a screen reader says.

    Example:
        >>> panel(lambda axes: None, 100, "a", "empty axes").startswith("<svg")
        True
    """
    with matplotlib.rc_context(SETTINGS):
        whole = height + ABOVE + BELOW
        figure = Figure(figsize=(WIDTH / 72, whole / 72))
        FigureCanvasSVG(figure)
        axes = figure.add_axes(
            (LEFT / WIDTH, BELOW / whole, (WIDTH - LEFT - RIGHT) / WIDTH, height / whole)
        )
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.spines["bottom"].set_alpha(0.4)
        axes.tick_params(length=0, pad=6)
        axes.grid(visible=True, axis="y", alpha=0.13, linewidth=1)
        axes.set_axisbelow(True)
        draw(axes)
        stream = io.StringIO()
        with warnings.catch_warnings():
            # The browser writes the text, in a font of its own; matplotlib needs not know it.
            warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
            figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    return embed(stream.getvalue(), prefix, label)


def embed(document: str, prefix: str, label: str) -> str:
    """Turn a stand-alone SVG file into an element that shares a page with others.

    Args:
        document: SVG as matplotlib writes it.
        prefix: Put before every id, and before every reference to one.
        label: What a screen reader says.
    """
    root = ElementTree.fromstring(document)
    for child in [child for child in root if child.tag.endswith(("}metadata", "}defs"))]:
        # Addresses of vocabularies, and a style sheet that would apply to the whole page.
        if child.tag.endswith("}metadata") or any(node.tag.endswith("}style") for node in child):
            root.remove(child)
    for element in root.iter():
        element.tag = _local(element.tag)
        element.attrib = {
            _local(name): _rewrite(_local(name), value, prefix)
            for name, value in element.attrib.items()
        }
    root.attrib = {
        "viewBox": root.attrib["viewBox"],
        "role": "img",
        "aria-label": label,
        "stroke-linejoin": "round",
    }
    return ElementTree.tostring(root, encoding="unicode")


def _local(name: str) -> str:
    """Drop the namespace: in HTML an SVG element needs none."""
    return name.rpartition("}")[2]


def _rewrite(name: str, value: str, prefix: str) -> str:
    if name == "id":
        return f"{prefix}-{value}"
    if name == "href":
        return f"#{prefix}-{value.removeprefix('#')}"
    if name == "clip-path":
        return value.replace("url(#", f"url(#{prefix}-")
    if name == "style":
        # matplotlib 3.11 writes font-size and font-family, earlier ones a single font.
        inherited = re.sub(r"font: *([\d.]+px)[^;]*", r"font-size: \1", value)
        return re.sub(r"font-family:[^;]*;? *", "", inherited).replace(INK, "currentColor")
    return value
