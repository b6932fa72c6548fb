"""The report in a real browser, headless Chromium: whole, quiet, and readable everywhere."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

from kanbatsu.report.language import LANGUAGES, texts
from kanbatsu.report.page import render, write_report
from kanbatsu.report.results import read_study
from kanbatsu.report.summary import summarise, summarise_timing

DESK: ViewportSize = {"width": 1280, "height": 900}
PHONE: ViewportSize = {"width": 390, "height": 844}
SHEET: ViewportSize = {"width": 794, "height": 1123}
"""A4 in CSS pixels."""
INSIDE = {"width": 688, "height": 1001}
"""A4 between the margins of the page's style sheet."""

RULE = {
    "goal": "better",
    "minimum_effect": 0.0,
    "maximal_regression": None,
    "saves": "kept",
    "confidence": 0.95,
    "seeds": 5,
    "control": None,
}

# What sticks out on the right, where the reader cannot scroll to it.
STICKING_OUT = """() => [...document.querySelectorAll("body *")]
  .filter(node => !node.closest(".scroll, pre, svg"))
  .filter(node => node.getBoundingClientRect().right > innerWidth + 0.5)
  .map(node => node.outerHTML.slice(0, 200))"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start the system's Chromium."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("Chromium is not installed: `make browser` installs it where apt can")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path)
        yield started
        started.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write each page once; reading the study and drawing it is what takes time."""
    place = tmp_path_factory.mktemp("browser")
    written: dict[str, Path] = {}

    def write(lang: str, make_study: Callable, make_verdict: Callable) -> Path:
        if lang not in written:
            study = read_study(make_study(place / lang).path)
            summary = summarise(study) | {"verdict": make_verdict()}
            written[lang] = place / f"{lang}.html"
            html = render(study, summary, summarise_timing(study), lang)
            written[lang].write_text(html, encoding="utf-8")
        return written[lang]

    return write


@pytest.fixture
def opened(
    browser: Browser, pages: Callable, make_study: Callable, make_verdict: Callable
) -> Iterator[Callable[..., Page]]:
    """Open the planted study's page; whatever it says to the console or asks for is an error."""
    noises: list[str] = []
    tabs: list[Page] = []

    def open_page(lang: str, viewport: ViewportSize, **options: Any) -> Page:
        path = pages(lang, make_study, make_verdict)
        tab = browser.new_page(viewport=viewport, **options)
        tabs.append(tab)
        tab.on("console", lambda message: noises.append(message.text))
        tab.on("pageerror", lambda error: noises.append(str(error)))
        tab.on("request", lambda request: noises.append(request.url))
        tab.goto(path.as_uri())
        assert noises == [path.as_uri()]
        return tab

    yield open_page
    for tab in tabs:
        tab.close()


@pytest.mark.parametrize("viewport", [DESK, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_verdict_is_on_the_first_screen_and_nothing_sticks_out(
    opened: Callable[..., Page], lang: str, viewport: ViewportSize
) -> None:
    page = opened(lang, viewport)
    box = page.locator("#verdict").bounding_box()
    assert box is not None
    assert box["y"] + box["height"] <= viewport["height"]
    title = page.locator("#verdict .decision")
    assert title.is_visible()
    assert title.inner_text() == texts(lang)("decision.adopt", arm="sparse-256")
    assert page.locator("#verdict dl > div").count() == 4
    assert page.evaluate("document.documentElement.scrollWidth") == viewport["width"]
    assert page.evaluate(STICKING_OUT) == []


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_page_over_all_stages_is_whole_on_a_phone(
    browser: Browser, tmp_path: Path, make_study: Callable, lang: str
) -> None:
    rule = {**RULE, "measure": "mean_difference", "arms": ["sparse-256"]}
    for name, decision in (("pilot", None), ("search-1", None), ("confirm", rule)):
        make_study(tmp_path / name, decision=decision, probes=False)
    question = "Running robot: does a wide, thinned network learn faster than a small whole one?"
    (tmp_path / "poc.json").write_text(json.dumps({"question": question}))
    write_report(tmp_path / "confirm", lang)
    verdict = json.loads((tmp_path / "confirm" / "summary.json").read_text())["verdict"]
    order = {"stage": "search-1", "order": ["sparse-256"], "go_on": ["sparse-256"]}
    end = {"stage": "confirm", "verdict": verdict, "search": [order]}
    (tmp_path / "verdict.json").write_text(json.dumps(end))
    page = write_report(tmp_path, lang)
    tab = browser.new_page(viewport=PHONE)
    tab.goto(page.as_uri())
    box = tab.locator("#verdict").bounding_box()
    assert box is not None
    assert box["y"] + box["height"] <= PHONE["height"]
    assert tab.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    assert tab.evaluate(STICKING_OUT) == []
    stages = tab.locator("main section").last.locator("a")
    assert stages.count() == 3
    for stage in stages.all():
        assert (tmp_path / str(stage.get_attribute("href"))).exists()
    tab.close()


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_team_has_one_sheet_of_paper(opened: Callable[..., Page], lang: str) -> None:
    page = opened(lang, SHEET)
    page.emulate_media(media="print")
    page.add_style_tag(content=f"main {{ width: {INSIDE['width']}px }}")
    box = page.locator("#team").bounding_box()
    assert box is not None
    assert box["height"] <= INSIDE["height"]
    assert page.locator("#team figure").count() == 4


def test_links_lead_to_parts_of_the_page(opened: Callable[..., Page]) -> None:
    page = opened("en", DESK)
    page.get_by_role("link", name="Appendix for engineers").click()
    assert page.evaluate("location.hash") == "#appendix"
    assert page.evaluate("scrollY") > 0


def test_dark_readers_get_a_dark_page(opened: Callable[..., Page]) -> None:
    page = opened("en", PHONE, color_scheme="dark")
    colours = "[document.body, document.querySelector('#verdict')].map(n => getComputedStyle(n)"
    assert page.evaluate(colours + ".backgroundColor)") == ["rgb(21, 25, 26)", "rgb(22, 41, 31)"]
