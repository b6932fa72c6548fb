"""The navigation names folders: a name with * stands for the pages that it matches."""

import fnmatch
from pathlib import PurePosixPath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Write out the names with * in the navigation, README first."""
    pages = sorted(
        (file.src_uri for file in files.documentation_pages()),
        key=lambda uri: (PurePosixPath(uri).name != "README.md", uri),
    )
    config.nav = _written_out(config.nav, pages)
    return files


def _written_out(item: Any, pages: list[str]) -> Any:
    if isinstance(item, dict):
        ((title, inside),) = item.items()
        several = isinstance(inside, str) and "*" in inside
        return {title: _written_out([inside] if several else inside, pages)}
    if isinstance(item, list):
        return [entry for one in item for entry in _entries(one, pages)]
    return item


def _entries(item: Any, pages: list[str]) -> list[Any]:
    if isinstance(item, str) and "*" in item:
        folder = PurePosixPath(item).parent
        matching = (uri for uri in fnmatch.filter(pages, item))
        return [uri for uri in matching if PurePosixPath(uri).parent == folder]
    return [_written_out(item, pages)]
