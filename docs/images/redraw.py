"""Draw the pictures of a first page anew, from the stored results of evidence/unnormalised.

    python docs/images/redraw.py

A rule, a title and names that are nobody's jargon are added for the pictures; the study itself
decides nothing. Playwright and Chromium do the drawing, and a font with Japanese must be there.
"""

from __future__ import annotations

import shutil
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from kanbatsu.files.tables import to_dict
from kanbatsu.report.language import Language
from kanbatsu.report.page import render
from kanbatsu.report.results import StudyResults, read_study
from kanbatsu.report.summary import summarise, summarise_timing
from kanbatsu.study.rule import DecisionRule

HERE = Path(__file__).parent
STUDY = HERE.parents[1] / "evidence" / "unnormalised"
TASK, ARMS = "dmc/cheetah-run", ("narrow", "wide-sparse")
QUESTION = "Running robot: does a wide, thinned network learn faster than a small whole one?"
JAPANESE = {
    "question": "走行ロボット：間引いた大きなネットワークは、小さなネットワークより早く学習するか"  # noqa: RUF001
}
DESK, PHONE = (1280, 900), (390, 844)
PAPER, INSIDE = (794, 1123), (688, 1002)
"""A4 at 96 dots an inch, and what its margins leave."""


def pictured() -> StudyResults:
    """Return the stored study with what is added for the pictures."""
    study = read_study(STUDY)
    arms = tuple(replace(arm, runs=arm.on(TASK)) for arm in study.arms if arm.name in ARMS)
    return replace(
        study,
        question=QUESTION,
        note=None,
        control="narrow",
        tasks=(TASK,),
        arms=tuple(sorted(arms, key=lambda arm: ARMS.index(arm.name))),
        decision=to_dict(DecisionRule(goal="better", measure="mean_difference", seeds=20)),
        text={"ja": JAPANESE},
    )


@contextmanager
def browser() -> Iterator[Page]:
    """Yield an empty page of Chromium."""
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        yield started.new_page()
        started.close()


def draw(
    page: Page, html: str, size: tuple[int, int], name: str = "", media: str = "screen"
) -> bytes:
    """Return the first screen of a page at a size, and store it where it has a name."""
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.emulate_media(media=media)  # type: ignore[arg-type]
    page.set_content(html)
    taken = page.screenshot()
    if name:
        Image.open(BytesIO(taken)).quantize(128).save(HERE / name, optimize=True)
    return taken


def main() -> None:
    """Draw all pictures."""
    study = pictured()
    summary, timing = summarise(study), summarise_timing(study)
    pages: dict[Language, str] = {
        language: render(study, summary, timing, language) for language in ("en", "ja")
    }
    with browser() as page:
        draw(page, pages["en"], DESK, "report.png")
        draw(page, pages["ja"], DESK, "report-ja.png")
        phones = [draw(page, pages[language], PHONE) for language in ("en", "ja")]
        beside(page, phones, (2 * PHONE[0] + 20, PHONE[1]), "report-phone.png", "#888")
        sheet = draw(page, pages["ja"].replace('id="team"', "hidden"), INSIDE, media="print")
        beside(page, [sheet], PAPER, "report-a4-ja.png", "#fff")


def beside(
    page: Page, pictures: list[bytes], size: tuple[int, int], name: str, ground: str
) -> None:
    """Store pictures side by side in the middle of a page."""
    images = "".join(
        f'<img src="data:image/png;base64,{b64encode(each).decode()}">' for each in pictures
    )
    place = "display:flex;gap:20px;align-items:center;justify-content:center;height:100vh"
    draw(page, f'<body style="margin:0;{place};background:{ground}">{images}', size, name)


if __name__ == "__main__":
    main()
