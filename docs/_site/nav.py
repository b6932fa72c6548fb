"""The navigation names folders: a name with * stands for the pages that it matches.

Of those, a page with a long title is listed by the name of its file.
"""

import fnmatch
from pathlib import PurePosixPath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files

LONGEST = 40
"""Characters of the longest title that the navigation shows."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Write out the names with * in the navigation, README first."""
    titles = {
        file.src_uri: file.content_string.partition("\n")[0].removeprefix("# ")
        for file in files.documentation_pages()
    }
    pages = dict(sorted(titles.items(), key=lambda item: ("README.md" not in item[0], item[0])))
    config.nav = _written_out(config.nav, pages)
    return files


def _written_out(item: Any, pages: dict[str, str]) -> Any:
    if isinstance(item, dict):
        ((title, inside),) = item.items()
        several = isinstance(inside, str) and "*" in inside
        return {title: _written_out([inside] if several else inside, pages)}
    if isinstance(item, list):
        return [entry for one in item for entry in _entries(one, pages)]
    return item


def _entries(item: Any, pages: dict[str, str]) -> list[Any]:
    if isinstance(item, str) and "*" in item:
        folder = PurePosixPath(item).parent
        matching = (uri for uri in fnmatch.filter(pages, item))
        return [
            {PurePosixPath(uri).stem.replace("-", " "): uri} if len(pages[uri]) > LONGEST else uri
            for uri in matching
            if PurePosixPath(uri).parent == folder
        ]
    return [_written_out(item, pages)]
