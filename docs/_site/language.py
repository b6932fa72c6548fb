"""Japanese pages: the words of the frame around them, and the way to the same page in English."""

from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

NAMES = {"en": "English", "ja": "日本語"}
FIRST = {"en": "index.md", "ja": "ja/index.md"}
"""Where the switch leads from a page that the other language does not have."""

written: dict[str, str] = {}
"""Addresses of the site's pages, by their files."""


def on_files(files: Files, **_: object) -> Files:
    """Note which pages there are."""
    written.update({file.src_uri: file.url for file in files.documentation_pages()})
    return files


def on_page_context(
    context: dict[str, Any], page: Page, config: MkDocsConfig, **_: object
) -> dict[str, Any]:
    """Set the language of a page's frame, and where its switch of languages leads."""
    uri = page.file.src_uri
    config.theme["language"] = "ja" if uri.startswith("ja/") else "en"
    same = {"en": uri.removeprefix("ja/"), "ja": f"ja/{uri.removeprefix('ja/')}"}
    config.extra["alternate"] = [
        {
            "name": name,
            "lang": lang,
            "link": written.get(same[lang], written[FIRST[lang]]),
        }
        for lang, name in NAMES.items()
    ]
    return context
