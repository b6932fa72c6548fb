"""Texts: both languages whole, alike in what they fill in, and used, every one of them."""

import re
from pathlib import Path
from string import Formatter

import pytest

from kanbatsu.report.glossary import PROBES, WORDS
from kanbatsu.report.language import LANGUAGES, TAGS, texts

REPORT = Path(__file__).parents[2] / "kanbatsu" / "report"
ENGLISH, JAPANESE = texts("en").table, texts("ja").table


def places(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name is not None}


def test_both_languages_have_the_same_texts_in_the_same_order() -> None:
    assert list(JAPANESE) == list(ENGLISH)


def test_a_text_fills_in_the_same_in_both_languages() -> None:
    for key, text in ENGLISH.items():
        # English says "one" where Japanese names the count, as it does for many.
        alike = {
            frozenset(places(text)),
            frozenset(places(ENGLISH[re.sub(r"\.one$", ".many", key)])),
        }
        assert frozenset(places(JAPANESE[key])) in alike, key


def test_japanese_is_japanese() -> None:
    alike = ("list.", "network.kind", "measure.percent", "team.effect", "team.probe_of")
    named = ("word.simba.title", "word.iqm.title")
    for key, text in JAPANESE.items():
        if not key.startswith(alike) and key not in named:
            assert re.search("[\u3040-\u30ff\u4e00-\u9fff]", text), key
        assert not re.search(r"[\u3040-\u30ff\u4e00-\u9fff][,.](?:\s|$)", text), key


@pytest.mark.parametrize("lang", LANGUAGES)
def test_nothing_of_a_text_is_left_open(lang: str) -> None:
    for key, text in texts(lang).table.items():
        opened = places(text) & {*TAGS, "link"}
        assert ("end" in places(text)) == bool(opened), key


def test_every_probe_and_word_is_explained_and_no_other() -> None:
    for section, names in (("probe", PROBES), ("word", WORDS)):
        known = {
            key.split(".", 1)[1].rpartition(".")[0]
            for key in ENGLISH
            if key.startswith(section + ".")
        }
        assert known == set(names)


def test_every_text_is_used() -> None:
    files = [*REPORT.glob("*.py"), *(REPORT / "templates").glob("*.j2")]
    code = "\n".join(path.read_text(encoding="utf-8") for path in files)
    # A key is written whole, or built from a section and a name that the study decides.
    built = set(re.findall(r'f"([a-z]+\.[a-z_]*)\{', code))
    for key in ENGLISH:
        whole = re.sub(r"\.(one|many)$", "", key)
        assert f'"{whole}"' in code or key.startswith(tuple(built)), key
