"""Pictures of stored studies: those of the data, whole, and nothing but a picture."""

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from kanbatsu.report import curves
from kanbatsu.report.evidence.pictures import draw
from kanbatsu.report.evidence.replaced import drawn as drawn_arms
from kanbatsu.report.evidence.stored import is_bench, read
from kanbatsu.report.rivals import rivals

ROOT = Path(__file__).parents[2]
STORED = sorted(path.parent.name for path in (ROOT / "evidence").glob("*/study.json"))
NAME = re.compile(r'(?:id|href|clip-path)="[^"]*"')
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")


@pytest.mark.parametrize("name", STORED)
def test_a_picture_is_that_of_the_stored_data(name: str) -> None:
    written = (ROOT / "docs" / "evidence" / f"{name}.svg").read_text(encoding="utf-8")
    evidence = read(ROOT / "evidence" / name)
    drawn = draw(evidence)
    # The same but for the last digits, in which processors may differ, and names made of them.
    same = [NAME.sub("", text) for text in (written, drawn)]
    assert NUMBER.sub("#", same[0]) == NUMBER.sub("#", same[1]), "run `make evidence`"
    there, here = (np.array(NUMBER.findall(text), float) for text in same)
    np.testing.assert_allclose(there, here, atol=0.01)
    root = ElementTree.fromstring(written)
    texts = {element.text for element in root.iter() if element.tag.endswith("}text")}
    found = rivals(evidence.study)
    study = drawn_arms(evidence.study, found) if found else evidence.study
    assert {arm.name for arm in study.arms} <= texts
    title = "Accuracy" if is_bench(study) else "Return"
    assert {f"{title}, {task}" for task in study.tasks} <= texts
    assert "no data yet" not in texts


def test_there_are_no_other_pictures() -> None:
    found = sorted(path.stem for path in (ROOT / "docs" / "evidence").glob("*.svg"))
    assert found == STORED


def test_every_curve_is_drawn_at_the_height_of_its_numbers() -> None:
    evidence = read(ROOT / "evidence" / "unnormalised-step")
    picture = ElementTree.fromstring(draw(evidence))
    panel = next(e for e in picture if e.tag.endswith("}svg"))
    low, high = _axis(panel)
    looks = curves.styles(evidence.study)
    for arm in evidence.study.arms:
        finals = [run.final_return for run in arm.on("dmc/cheetah-run")]
        (path,) = (
            element.attrib["d"]
            for element in panel.iter()
            if element.tag.endswith("}path")
            and "fill: none" in element.attrib.get("style", "")
            and f"stroke: {looks[arm.name].color}" in element.attrib["style"]
        )
        last = float(NUMBER.findall(path)[-1])
        drawn = (last - low[0]) / (high[0] - low[0]) * (high[1] - low[1]) + low[1]
        assert drawn == pytest.approx(np.mean(finals), abs=0.1), arm.name


def _axis(panel: ElementTree.Element) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return height and value of the lowest and the highest tick of the y axis."""
    axis = next(e for e in panel.iter() if e.attrib.get("id", "").endswith("matplotlib.axis_2"))
    ticks = []
    for tick in axis:
        line = next((e for e in tick.iter() if e.tag.endswith("}path")), None)
        text = next((e for e in tick.iter() if e.tag.endswith("}text")), None)
        if line is not None and text is not None:
            ticks.append((float(NUMBER.findall(line.attrib["d"])[-1]), float(text.text or "nan")))
    return min(ticks, key=lambda t: t[1]), max(ticks, key=lambda t: t[1])
