"""Drawings: deterministic, self-contained, and in the colours of the page around them."""

import re
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest

from kanbatsu.report import figures
from kanbatsu.report.figures import STYLES, Interval, Line


def curve(style: figures.Style = STYLES[1]) -> Line:
    x = np.linspace(0, 1000, 5)
    return Line(x, x / 10, x / 20, x / 5, style)


def row(label: str = "sparse", **changes: object) -> Interval:
    return Interval(label, **{"value": 2.0, "low": 1.0, "high": 3.0, "style": STYLES[2], **changes})


def draw_all(prefix: str) -> list[str]:
    return [
        figures.lines([curve()], x_label="env steps", prefix=prefix + "a", label="a", empty="-"),
        figures.against(
            [row(x=5e4)], x_label="kept weights", prefix=prefix + "b", label="b", empty="-"
        ),
        figures.intervals([row()], x_label="return", prefix=prefix + "c", label="c", empty="-"),
    ]


def test_equal_data_give_equal_bytes() -> None:
    assert draw_all("p") == draw_all("p")


def test_drawings_load_nothing_and_parse() -> None:
    for svg in draw_all("p"):
        assert "http" not in svg
        assert "<style" not in svg
        assert ElementTree.fromstring(svg).tag == "svg"


def test_ids_are_unique_on_a_page_and_references_lead_somewhere() -> None:
    page = "".join(draw_all("p") + draw_all("q"))
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids)) > 0
    references = re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', page)
    assert references
    assert {a or b for a, b in references} <= set(ids)


def test_text_is_text_in_the_pages_font_and_colour() -> None:
    for svg in draw_all("p"):
        assert figures.INK not in svg
        assert "#000000" not in svg
        assert "font-family" not in svg
        texts = [node for node in ElementTree.fromstring(svg).iter() if node.tag == "text"]
        assert texts
        assert all("currentColor" in node.attrib["style"] for node in texts)
    assert ">env steps</text>" in draw_all("p")[0]


def test_names_are_shown_as_they_are() -> None:
    svg = figures.intervals(
        [row("$a_b$ <script>")], x_label="x", prefix="p", label='"<&', empty="-"
    )
    assert "$a_b$ &lt;script&gt;" in svg
    assert "<script>" not in svg


def test_values_are_written_beside_their_bars() -> None:
    svg = figures.intervals(
        [row(), row("one seed", low=np.nan, high=np.nan)],
        x_label="x",
        prefix="p",
        label="x",
        empty="-",
    )
    assert ">2.00 [1.00, 3.00]<" in svg
    assert ">2.00<" in svg


@pytest.mark.parametrize("empty", [figures.lines, figures.against, figures.intervals])
def test_no_data_is_said(empty: object) -> None:
    assert ">nothing</text>" in empty([], x_label="x", prefix="p", label="x", empty="nothing")


def test_text_may_be_japanese_though_no_font_is_here() -> None:
    svg = figures.lines([curve()], x_label="環境ステップ", prefix="p", label="収益", empty="-")
    assert ">環境ステップ</text>" in svg


def test_drawing_leaves_no_global_state() -> None:
    before = matplotlib.rcParams["svg.fonttype"], matplotlib.rcParams["font.size"]
    draw_all("p")
    assert before == (matplotlib.rcParams["svg.fonttype"], matplotlib.rcParams["font.size"])


@pytest.mark.parametrize("style", STYLES)
def test_colours_can_be_seen_on_light_and_on_dark(style: figures.Style) -> None:
    def luminance(colour: str) -> float:
        channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        linear = np.where(
            channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4
        )
        return float(linear @ [0.2126, 0.7152, 0.0722])

    def contrast(a: float, b: float) -> float:
        return (max(a, b) + 0.05) / (min(a, b) + 0.05)

    # 3 to 1 is what WCAG 2.1 asks of graphics.
    assert contrast(luminance(style.color), luminance("#fdfdfb")) >= 3
    assert contrast(luminance(style.color), luminance("#15191a")) >= 3


def test_every_style_has_a_key() -> None:
    keys = {figures.key(style) for style in STYLES}
    assert len(keys) == len(STYLES)
    for key in keys:
        assert "<polygon" in key
