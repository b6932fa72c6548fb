"""The page of a rollout: what it says, in both languages, in a browser, and live."""

import re
import shutil
import urllib.error
import urllib.request
from pathlib import Path
from string import Formatter

import numpy as np
import pytest
from playwright.sync_api import sync_playwright

from kanbatsu.report.language import LANGUAGES
from kanbatsu.rollout.events import FAILURES, STAGES, TRIGGERS
from kanbatsu.rollout.journal import Journal
from kanbatsu.rollout.pages.overview import Overview
from kanbatsu.rollout.pages.page import deadline_in, render, texts, write_page
from kanbatsu.rollout.pages.serve import Live, ServeError

ROLLOUT = Path(__file__).parents[2] / "kanbatsu" / "rollout"
START = 1_790_000_000.0
DEADLINE_US = 10_000.0
SCREENS = {"desk": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}

# What sticks out on the right, where the reader cannot scroll to it.
STICKING_OUT = """() => [...document.querySelectorAll("body *")]
  .filter(node => !node.closest(".scroll, pre, svg"))
  .filter(node => node.getBoundingClientRect().right > innerWidth + 0.5)
  .map(node => node.outerHTML.slice(0, 200))"""


def events() -> list[dict]:
    """Return six hours of a rollout: shadow, canary with a late answer, full with drift."""
    rng = np.random.default_rng(0)
    made = [
        stage(0, None, "shadow", "begun with the bundle of 12 May", "ann"),
        *(action(60 * n, "incumbent", rng.gamma(4, 50)) for n in range(60)),
        *(answered(60 * n + 1, rng.normal(0, [0.1, 0.02]), rng.gamma(4, 300)) for n in range(60)),
        at(900, "shadow", difference=None, candidate_latency_us=None, would_violate=[],
           failure="hung", answers=16, dropped=3),
        gate(3590, "shadow", {"answers": 10_312, "violation_share": 0.0, "late_share": 0.0004},
             "at least 10000 answers, no violations, no more than 0.1 % late", True),
        stage(3600, "shadow", "canary", "the gate of shadow was passed", "ann"),
        *(episode(3600 + 30 * n, "candidate" if n % 10 == 0 else "incumbent",
                  rng.normal(-100 + 8 * (n % 10 == 0), 10)) for n in range(240)),
        *(action(3600 + 60 * n, "candidate", rng.gamma(4, 320)) for n in range(300)),
        *(at(5000 + 10 * n, "guard", trigger="deadline", detail="no answer within 10 ms",
             source="fallback", count=n + 1) for n in range(3)),
        gate(10_700, "canary", {"episodes": 240, "candidate": 24, "difference": 7.9, "low": 1.25},
             "the difference of returns stays above -5 at alpha 0.05", True),
        stage(10_800, "canary", "full", "the gate was passed; checked with the crew", "bo"),
        *(at(10_800 + 60 * n, "drift", shift=float(0.2 + 0.001 * n + 1.2 * (n > 150)),
             shift_feature="inflow", mahalanobis=0.3, mahalanobis_feature="observation",
             saturation=0.1, saturation_feature="action[0]", samples=50 * n) for n in range(180)),
        at(20_000, "alarm", statistic="shift", feature="inflow", direction="up", on=True,
           value=14.7, threshold=13.6, samples=9_200),
        at(21_000, "guard", trigger="observation_not_finite", detail="NaN in <b>inflow</b>",
           source="incumbent", count=1),
    ]  # fmt: skip
    return made


def at(seconds: float, kind: str, **values: object) -> dict:
    return {"kind": kind, "time": START + seconds, **values}


def stage(seconds: float, before: str | None, after: str, reason: str, by: str) -> dict:
    return at(seconds, "stage", **{"from": before, "to": after, "reason": reason, "by": by})


def gate(seconds: float, name: str, numbers: dict, rule: str, passed: bool) -> dict:
    return at(seconds, "gate", stage=name, numbers=numbers, rule=rule, passed=passed, harm=False)


def action(seconds: float, source: str, latency_us: float) -> dict:
    return at(seconds, "action", source=source, latency_us=latency_us, guard=None, steps=600)


def answered(seconds: float, difference: np.ndarray, latency_us: float) -> dict:
    return at(
        seconds, "shadow", difference=difference.tolist(), candidate_latency_us=latency_us,
        would_violate=["action_slew"] if seconds < 100 else [], failure=None,
        answers=int(seconds * 3), dropped=3,
    )  # fmt: skip


def episode(seconds: float, arm: str, value: float) -> dict:
    return at(seconds, "episode", arm=arm, number=0, violations=0, steps=900, **{"return": value})


@pytest.fixture(scope="module")
def overview() -> Overview:
    made = Overview()
    made.add(events())
    return made


@pytest.fixture(scope="module")
def pages(overview: Overview) -> dict[str, str]:
    return {lang: render(overview, "tank", lang, DEADLINE_US) for lang in LANGUAGES}


def test_the_page_says_where_the_rollout_is(pages):
    page = pages["en"]
    for text in (
        "Full service: the candidate acts, under watch",
        "checked with the crew",
        "Alarm: inflow.",
        "at least 10000 answers",
        "10,312",
        "no answer in time",
        "4 triggers in the record.",
        "over the deadline",
        "10 ms",
        "inflow",
    ):
        assert text in page, text
    assert "<b>inflow</b>" not in page
    assert "&lt;b&gt;inflow&lt;/b&gt;" in page
    assert texts("ja")("stage.full") in pages["ja"]
    assert "期限内に応答なし" in pages["ja"]


def test_numbers_are_those_of_the_events(overview):
    assert overview.stage == "full"
    assert (overview.actions["incumbent"], overview.actions["candidate"]) == (36_000, 180_000)
    assert overview.guard["deadline"] == (3, START + 5020)
    assert overview.episodes == {"candidate": 24, "incumbent": 216}
    assert overview.failures == {"hung": 1}
    assert overview.would_violate == {"action_slew": 2}
    assert list(overview.alarms) == [("shift", "inflow")]
    [late] = [incident for incident in overview.incidents if incident.name == "deadline"]
    assert (late.count, late.last - late.first) == (3, 20)


def test_damaged_events_are_shown_and_stop_nothing():
    overview = Overview()
    overview.add([at(0, "guard", trigger="deadline"), stage(1, None, "shadow", "", "ann")])
    assert overview.stage == "shadow"
    assert overview.incidents[0].kind == "journal"


def test_the_page_is_written_from_the_folder_alone(tmp_path):
    (tmp_path / "rollout.toml").write_text("[guard]\ndeadline_s = 0.02\n")
    assert deadline_in(tmp_path) == 20_000
    with pytest.raises(FileNotFoundError, match="holds no journal of a rollout"):
        write_page(tmp_path)
    with Journal(tmp_path / "journal") as journal:
        for event in events()[:100]:
            journal.append(event)
    with (tmp_path / "journal" / "actions-00000001.jsonl").open("ab") as file:
        file.write(b'{"half')
    page = write_page(tmp_path, "ja")
    assert page == tmp_path / "report.ja.html"
    html = page.read_text("utf-8")
    assert "20 ms" in html
    assert "half a line at its end" in html
    assert "シャドー運転" in html


def test_the_page_is_whole_without_any_event():
    for lang in LANGUAGES:
        assert texts(lang)("page.empty") in render(Overview(), "new", lang)


def test_the_page_loads_nothing_from_elsewhere(pages):
    for page in pages.values():
        assert not re.search(r"(src|href)=\"(?!#)|<script|@import|url\((?!#)", page)


def test_live_shows_what_is_new_and_answers_this_machine_alone(tmp_path):
    with Journal(tmp_path / "journal") as journal:
        journal.append(stage(0, None, "shadow", "begun", "ann"))
        with Live(tmp_path) as live:
            assert live.address.startswith("http://127.0.0.1:")
            wait_for(live, "Shadow: the candidate watches")
            journal.append(stage(9, "shadow", "rolled_back", "drift", "bo"))
            page = wait_for(live, "Rolled back: the incumbent acts")
            assert '<meta http-equiv="refresh" content="5">' in page
            assert "切り戻し済み" in fetch(live.address + "ja")
            for address, host in ((live.address + "x", "localhost:1"), (live.address, "evil.com")):
                with pytest.raises(urllib.error.HTTPError, match="404"):
                    fetch(address, host)
            with pytest.raises(ServeError, match="give another port"):
                Live(tmp_path, port=int(live.address.split(":")[-1].strip("/")))


def fetch(address: str, host: str | None = None) -> str:
    request = urllib.request.Request(address, headers={"Host": host} if host else {})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.read().decode()


def wait_for(live: Live, text: str) -> str:
    for _ in range(50):
        page = fetch(live.address)
        if text in page:
            return page
    raise AssertionError(f"{text!r} never came")


@pytest.fixture(scope="module")
def browser():
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("Chromium is not installed: `make browser` installs it where apt can")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path)
        yield started
        started.close()


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_stage_is_on_the_first_screen_and_nothing_sticks_out(
    browser, pages, tmp_path, lang, screen
):
    path = tmp_path / "page.html"
    path.write_text(pages[lang], encoding="utf-8")
    noises: list[str] = []
    tab = browser.new_page(viewport=SCREENS[screen])
    tab.on("console", lambda message: noises.append(message.text))
    tab.on("request", lambda request: noises.append(request.url))
    tab.goto(path.as_uri())
    assert noises == [path.as_uri()]
    box = tab.locator("#state").bounding_box()
    assert box["y"] + box["height"] <= SCREENS[screen]["height"]
    assert tab.locator("#state .decision").inner_text() == texts(lang)("stage.full")
    assert tab.locator("figure").count() == 3
    assert tab.evaluate("document.documentElement.scrollWidth") == SCREENS[screen]["width"]
    assert tab.evaluate(STICKING_OUT) == []
    tab.close()


def places(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name is not None}


def test_both_languages_have_the_same_texts_and_every_text_is_used():
    english, japanese = texts("en").table, texts("ja").table
    assert list(english) == list(japanese)
    code = "\n".join(
        path.read_text("utf-8") for path in (*ROLLOUT.rglob("*.py"), *ROLLOUT.rglob("templates/*"))
    )
    built = {"stage", "short", "source", "trigger", "failure", "kind", "list", "figure"}
    for key, text in english.items():
        assert places(text) == places(japanese[key]), key
        section, name = key.split(".", 1)
        whole = re.sub(r"\.(one|many)$", "", key)
        # A key is written whole, or its section is built with a name that stands elsewhere.
        assert f'"{whole}"' in code or section in built or re.search(f'["._]{name}["]', code), key


def test_every_word_of_the_events_has_a_text():
    for section, names in (("stage", STAGES), ("short", STAGES), ("trigger", TRIGGERS),
                           ("failure", FAILURES)):  # fmt: skip
        table = texts("en").table
        assert {key.split(".")[1] for key in table if key.startswith(f"{section}.")} >= set(names)
