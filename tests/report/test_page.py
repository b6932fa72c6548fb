"""The page: honest, escaped, self-contained, and whole whatever is missing."""

import math
import re
from collections.abc import Callable
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path

import pytest

from kanbatsu.files.store import StudyFolder
from kanbatsu.report.language import texts
from kanbatsu.report.page import render, write_report
from kanbatsu.report.results import read_study
from kanbatsu.report.summary import summarise, summarise_timing
from kanbatsu.report.words import compared
from kanbatsu.study.rule import DecisionRule

MakeStudy = Callable[..., StudyFolder]
VOID = {"meta", "link", "br", "img", "input", "hr"}
WALKER = "dmc/walker-walk"


class Page(HTMLParser):
    """Collects visible text and attributes; fails where tags do not nest."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.words: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


def html_of(folder: StudyFolder) -> str:
    write_report(folder.path)
    return (folder.path / "report.html").read_text(encoding="utf-8")


def test_first_screen_says_what_was_compared(tmp_path: Path, make_study: MakeStudy) -> None:
    text = Page(html_of(make_study(tmp_path, note="This is a demonstration, not evidence."))).text
    first, rest = text.split("Learning curves", 1)
    assert "Does thinning help?" in first
    assert (
        "dense-64 (control), dense-256 and sparse-256, trained with SAC on dmc/walker-walk: "
        "5 seeds each, 1,000 env steps per run. 15 of 15 runs finished." in first
    )
    assert "This is a demonstration, not evidence." in first
    assert "critic: SimBa 256 \u00d7 2, 94% removed" in first
    assert "12,400" in first
    assert "112 [110, 114]" in first or "112 [111, 113]" in first
    assert "sparse-256 did better than dense-64 in this data" in first
    assert "Dormant ratio" in first
    assert "kanbatsu study studies/demo.toml --out out/demo" in rest
    assert "arXiv:2108.13264" in rest


def test_page_is_one_file_that_loads_nothing(tmp_path: Path, make_study: MakeStudy) -> None:
    html = html_of(make_study(tmp_path))
    page = Page(html)
    assert not re.search(r"https?://", html)
    assert "@import" not in html
    for tag, name, value in page.attributes:
        assert tag not in {"script", "link", "iframe", "img", "object"}
        assert not name.startswith("on")
        if name in {"src", "href", "srcset", "data", "action"}:
            assert value.startswith("#")
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", html))
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert "prefers-color-scheme: dark" in html
    assert "width=device-width" in html
    assert "@media print" in html


def test_everything_from_outside_is_escaped(tmp_path: Path, make_study: MakeStudy) -> None:
    attack = '<script>alert("x")</script>'
    arm = {"width": 8, "sparsity": 0.5, "kept": 10, "total": 20}
    folder = make_study(
        tmp_path,
        arms={f"a{attack[:8]}": arm, "b": arm},
        control="b",
        note=attack,
        seeds=(0, 1),
        tasks=("my.package:make", "gym/Ant-v5"),
        stop={("b", "gym/Ant-v5", 1): ("failed", f"ValueError: {attack}", 0.4)},
    )
    html = html_of(folder)
    assert "<script" not in html
    page = Page(html)
    assert page.text.count(attack) == 2
    assert not any(tag == "script" for tag, _, _ in page.attributes)


def test_failed_runs_are_named_with_their_error(tmp_path: Path, make_study: MakeStudy) -> None:
    stop = {
        ("dense-64", WALKER, 3): ("failed", "ValueError: NaN at interaction 7", 0.2),
        ("dense-64", WALKER, 4): ("not started", None, 0),
    }
    text = Page(html_of(make_study(tmp_path, stop=stop))).text
    assert "2 of 15 runs are missing" in text
    assert "dense-64, dmc/walker-walk, seed 3: failed. ValueError: NaN at interaction 7" in text
    assert "dense-64, dmc/walker-walk, seed 4: not started." in text


def test_a_study_without_results_says_so(tmp_path: Path, make_study: MakeStudy) -> None:
    stop = {
        (arm, WALKER, 0): ("not started", None, 0)
        for arm in ("dense-64", "dense-256", "sparse-256")
    }
    text = Page(html_of(make_study(tmp_path, seeds=(0,), stop=stop))).text
    assert "No run has finished yet, so there is no result to show." in text
    assert "0 of 3 runs finished" in text
    assert "dense-256 cannot be compared with dense-64 yet" in text
    assert "Learning curves" not in text


def test_few_seeds_decide_nothing(tmp_path: Path, make_study: MakeStudy) -> None:
    text = Page(html_of(make_study(tmp_path, seeds=(0, 1, 2)))).text
    assert "Whether dense-256 is better than dense-64 cannot be decided from 3 seeds" in text
    assert "did better" not in text


@pytest.mark.parametrize(
    "changes",
    [
        {"control": None},
        {"seeds": (0,)},
        {"arms": {"only": {"width": 8, "sparsity": 0.0, "kept": 5, "total": 5}}, "control": "only"},
        {"probes": False},
        {"tasks": (WALKER, "dmc/dog-stand")},
        {"tasks": ("gym/Ant-v5", "my.package:make")},
        {"returns": lambda arm, task, seed, share: math.nan},
        {"returns": lambda arm, task, seed, share: -1500.0 * (1 - share)},
        {"returns": lambda arm, task, seed, share: 0.0},
        {"stop": {("dense-64", WALKER, seed): ("failed", "x", 0.3) for seed in (0, 1)}},
    ],
)
def test_missing_pieces_leave_a_whole_page(
    tmp_path: Path, make_study: MakeStudy, changes: dict
) -> None:
    html = html_of(make_study(tmp_path, **{"seeds": (0, 1), **changes}))
    text = Page(html).text
    assert "Result" in text
    assert not re.search(r"\b(nan|None|inf)\b", text)


def test_without_a_control_the_page_says_how_to_get_one(
    tmp_path: Path, make_study: MakeStudy
) -> None:
    text = Page(html_of(make_study(tmp_path, control=None, seeds=(0,)))).text
    assert "No control arm was named" in text


def test_settings_that_differ_are_marked(tmp_path: Path, make_study: MakeStudy) -> None:
    html = html_of(make_study(tmp_path, seeds=(0,)))
    row = re.search(r'<th scope="row">critic.sparsity</th>(.*?)</tr>', html).group(1)
    assert row == "<td>0.0</td><td>0.0</td><td><mark>0.94</mark></td>"
    row = re.search(r'<th scope="row">discount</th>(.*?)</tr>', html).group(1)
    assert row == "<td>not set</td>" * 3


def test_settings_that_the_control_leaves_out_are_marked_too(
    tmp_path: Path, make_study: MakeStudy
) -> None:
    folder = make_study(tmp_path, seeds=(0,))
    study = folder.read_study()
    study["arms"]["sparse-256"]["config"]["extra"] = {"depth": 3}
    folder.write_study(study)
    row = re.search(r'<th scope="row">extra.depth</th>(.*?)</tr>', html_of(folder)).group(1)
    assert row == "<td>not set</td><td>not set</td><td><mark>3</mark></td>"


def test_the_same_files_give_the_same_page(tmp_path: Path, make_study: MakeStudy) -> None:
    folder = make_study(tmp_path, seeds=(0, 1))
    assert html_of(folder) == html_of(folder)


def comparison(low: float, high: float, seeds: int = 5) -> dict:
    return {
        "arm": "a",
        "control": "b",
        "tasks": ["t"],
        "seeds_per_task": seeds,
        "probability_of_improvement": (low + high) / 2,
        "interval": [low, high],
    }


@pytest.mark.parametrize(
    ("low", "high", "seeds", "word"),
    [
        (0.51, 0.9, 5, "better"),
        (0.1, 0.49, 5, "worse"),
        (0.5, 1.0, 5, "no difference seen"),
        (0.3, 0.7, 50, "no difference seen"),
        (1.0, 1.0, 4, "too few seeds"),
    ],
)
def test_the_interval_decides(low: float, high: float, seeds: int, word: str) -> None:
    assert compared(comparison(low, high, seeds), texts("en")).word == word


def test_comparisons_that_cannot_be_given() -> None:
    alone = {**comparison(1, 1, seeds=1), "interval": None}
    assert compared(alone, texts("en")).word == "too few seeds"
    nothing = {**alone, "probability_of_improvement": None}
    assert compared(nothing, texts("en")).word == "not comparable yet"


@pytest.mark.parametrize(
    ("lang", "name", "said"),
    [("en", "report.html", "Learning curves"), ("ja", "report.ja.html", "学習曲線")],
)
def test_each_language_has_its_page(
    tmp_path: Path, make_study: MakeStudy, lang: str, name: str, said: str
) -> None:
    page = write_report(make_study(tmp_path).path, lang)
    assert page == tmp_path / name
    html = page.read_text(encoding="utf-8")
    assert f'<html lang="{lang}">' in html
    assert said in Page(html).text


def test_numbers_and_drawings_are_the_same_in_both_languages(
    tmp_path: Path, make_study: MakeStudy
) -> None:
    folder = make_study(tmp_path, seeds=(0, 1))
    pages = [write_report(folder.path, lang).read_text(encoding="utf-8") for lang in ("en", "ja")]
    drawn, cells = [], []
    for html in pages:
        drawn.append(re.findall(r' (?:d|points)="([^"]*)"', html))
        cells.append(re.findall(r"<td[^>]*>([-\d.,[\] –kMG]+)", html))
    assert len(drawn[0]) > 100
    assert drawn[0] == drawn[1]
    assert len(cells[0]) > 20
    assert cells[0] == cells[1]


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_a_verdict_opens_the_page(
    tmp_path: Path, make_study: MakeStudy, make_verdict: Callable[..., dict], lang: str
) -> None:
    study = read_study(make_study(tmp_path).path)
    summary, timing = summarise(study) | {"verdict": make_verdict()}, summarise_timing(study)
    page = Page(render(study, summary, timing, lang))
    t = texts(lang)
    order = [
        t("decision.adopt", arm="sparse-256"),
        t("board.title"),
        t("figure.effects.title", control="dense-64"),
        t("phrases.title"),
        t("page.team"),
        t("team.found"),
        t("overturn.one_run", runs=1, of=10),
        t("team.gained"),
        t("matched.kept", arm="sparse-256"),
        t("figure.matched"),
        t("page.appendix"),
        t("rule.title"),
        t("page.configuration"),
    ]
    at = 0
    for words in order:
        assert words in page.text[at:], words
        at = page.text.index(words, at)
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert {value[1:] for _, name, value in page.attributes if name == "href"} <= set(ids)


def test_a_study_without_a_rule_has_no_verdict(tmp_path: Path, make_study: MakeStudy) -> None:
    html = html_of(make_study(tmp_path))
    assert 'class="verdict' not in html
    assert texts("en")("page.team") not in Page(html).text


def test_many_tasks_keep_their_curves_for_the_appendix(
    tmp_path: Path, make_study: MakeStudy, make_verdict: Callable[..., dict]
) -> None:
    tasks = ("gym/A-v0", "gym/B-v0", "gym/C-v0")
    study = read_study(make_study(tmp_path, tasks=tasks, seeds=(0,), probes=False).path)
    summary, timing = summarise(study) | {"verdict": make_verdict()}, summarise_timing(study)
    team, appendix = Page(render(study, summary, timing)).text.rsplit("Appendix for engineers", 1)
    assert "in the appendix" in team
    assert "Learning curves" not in team
    assert appendix.count("Learning curves") == 3


@pytest.mark.parametrize("lang", ["en", "ja"])
@pytest.mark.parametrize(
    ("rule", "changes", "decision"),
    [
        ({"minimum_effect": 5.0}, {}, "adopt"),
        ({"minimum_effect": 0.5, "measure": "iqm_relative"}, {}, "reject"),
        ({"goal": "no_worse", "maximal_regression": 5.0}, {"seeds": (0,)}, "extend"),
        (
            {"measure": "mean_relative", "maximal_regression": 0.5},
            {"tasks": ("gym/A-v0", "b:c"), "stop": {("dense-64", "b:c", 1): ("failed", "x", 0.2)}},
            "extend",
        ),
    ],
)
def test_what_the_rule_decides_stands_on_the_page(
    tmp_path: Path, make_study: MakeStudy, lang: str, rule: dict, changes: dict, decision: str
) -> None:
    every = asdict(DecisionRule(**rule))
    folder = make_study(tmp_path, decision=every, **{"seeds": (0, 1, 2, 3, 4), **changes})
    html = write_report(folder.path, lang).read_text(encoding="utf-8")
    assert f'class="verdict {decision}"' in html
    assert not re.search(r"\b(nan|None|inf)\b", Page(html).text)


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_one_page_has_one_interval_for_one_probability(
    tmp_path: Path, make_study: MakeStudy, lang: str
) -> None:
    folder = make_study(tmp_path, decision=asdict(DecisionRule()), returns=scattered)
    html = write_report(folder.path, lang).read_text(encoding="utf-8")
    verdict = summarise(read_study(folder.path))["verdict"]
    for each in verdict["candidates"]:
        low, high = each["probability_of_improvement"]["interval"]
        assert html.count(f"[{low:.2f}, {high:.2f}]") >= 2  # in the table and in the figure
    assert verdict["probability_of_improvement"]["interval"][0] > 0


def scattered(arm: str, task: str, seed: int, share: float) -> float:
    return share * (100.0 + (0.0 if arm == "dense-64" else 1.0) + 3.0 * (7 * seed % 5))


def test_a_page_speaks_the_words_that_its_study_has_in_a_language(
    tmp_path: Path, make_study: MakeStudy
) -> None:
    folder = make_study(tmp_path, decision=asdict(DecisionRule()), note="A demonstration.")
    record = folder.read_study()
    words = {
        "question": "間引きは有効か",
        "note": "これは実演です。",
        "arm": {"sparse-256": "軽量版"},
    }
    folder.write_study(record | {"text": {"ja": words}})
    japanese = write_report(folder.path, "ja").read_text(encoding="utf-8")
    assert "Does thinning help?" not in japanese
    assert "A demonstration." not in japanese
    assert "これは実演です。" in japanese
    assert '<p class="decision">軽量版 を採用する</p>' in japanese
    assert "間引きは有効か" not in html_of(folder)
