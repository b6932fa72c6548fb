"""Pages from the repository: the README and its like, notebooks, and all files that pages link to.

Pages link to each other as they lie in the repository, so that they can be read there too; here
those links are turned to the site's own pages. A file that is no page is shown with its text.
"""

import posixpath
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import jupytext
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
HOMES = {"README.md": "index.md", "docs/README.md": "pages.md"}
"""Pages of the site that are called otherwise than in the repository."""
LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:)([^)\s#]+)((?:#[^)\s]*)?)(?=\))")
CODE = re.compile(r"(^```.*?^```|`[^`\n]*`)", re.DOTALL | re.MULTILINE)
LANGUAGES = {".py": "python", ".toml": "toml", ".json": "json", ".yml": "yaml"}
LONGEST = 100_000
"""Characters of the longest file that is shown with its text."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie outside the folder of documentation, and the files they link to."""
    files.remove(files.src_uris["README.md"])
    for path in (*ROOT.glob("*.md"), ROOT / "docs/README.md", *(ROOT / "notebooks").rglob("*")):
        name = path.relative_to(ROOT).as_posix()
        if path.suffix == ".md":
            uri = HOMES.get(name, name if "/" in name else name.lower())
            files.append(File.generated(config, uri, content=path.read_text(encoding="utf-8")))
            if (script := path.with_suffix(".py")).exists():
                notebook = jupytext.writes(jupytext.read(script), fmt="ipynb")
                files.append(File.generated(config, f"{uri[:-3]}.ipynb", content=notebook))
        elif path.suffix in (".svg", ".png"):
            files.append(File.generated(config, name, abs_src_path=str(path)))
    for page in list(files.documentation_pages()):
        for target in _targets(page.content_string, page.src_uri):
            uri = _uri(target)
            if uri.startswith("source/") and uri not in files.src_uris:
                files.append(File.generated(config, uri, content=_shown(ROOT / target)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Turn links between files of the repository into links between pages of the site."""
    here = page.file.src_uri

    def turned(link: re.Match[str]) -> str:
        target = _target(link[1], here)
        if not (ROOT / target).exists() or link[1].startswith("/"):
            return link[0]  # left as it is, for the strict build to refuse
        return posixpath.relpath(_uri(target), posixpath.dirname(here)) + link[2]

    shown = _outside_code(markdown, lambda text: LINK.sub(turned, text))
    name = posixpath.basename(here).removesuffix(".md")
    if here.startswith("notebooks/") and (ROOT / "notebooks" / f"{name}.py").exists():
        page.meta.setdefault("hide", ["toc"])  # room for tables and figures
        shown += f"\nWithout outputs, to open in Jupyter: [{name}.ipynb]({name}.ipynb).\n"
    return shown


def _outside_code(markdown: str, change: Callable[[str], str]) -> str:
    parts = CODE.split(markdown)
    return "".join(part if index % 2 else change(part) for index, part in enumerate(parts))


def _targets(markdown: str, uri: str) -> Iterator[str]:
    """Yield the files of the repository that a page links to."""
    for part in CODE.split(markdown)[::2]:
        for link in LINK.finditer(part):
            if (ROOT / (target := _target(link[1], uri))).exists():
                yield target


def _target(link: str, uri: str) -> str:
    """Return where in the repository a link of a page of the site leads."""
    homes = {site: name for name, site in HOMES.items()}
    outside = {path.name.lower(): path.name for path in ROOT.glob("*.md")}
    here = homes.get(uri) or outside.get(uri)
    if here is None:
        here = uri if uri.startswith("notebooks/") else f"docs/{uri}"
    return posixpath.normpath(posixpath.join(posixpath.dirname(here), link))


def _uri(target: str) -> str:
    """Return the page, or the picture, of the site that a file of the repository is."""
    if target in HOMES:
        return HOMES[target]
    if target.startswith("docs/") and (ROOT / target).is_file():
        return target.removeprefix("docs/")
    if target.startswith("notebooks/") and not target.endswith(".py"):
        return target
    if "/" not in target and target.endswith(".md"):
        return target.lower()
    return f"source/{target}.md"


def _shown(path: Path) -> str:
    """Return the page of a file, or of a folder, that is no page itself."""
    name = path.relative_to(ROOT).as_posix()
    head = f"---\nsearch:\n  exclude: true\nhide: [navigation, toc]\n---\n\n# `{name}`\n\n"
    if path.is_dir():
        inside = sorted(file for file in path.rglob("*") if file.is_file())
        rows = (
            f"| `{file.relative_to(path)}` | {file.stat().st_size:,} |\n"
            for file in inside
            if "__pycache__" not in file.parts
        )
        return (
            head + "A folder of the repository.\n\n| file | bytes |\n|---|---:|\n" + "".join(rows)
        )
    text = path.read_text(encoding="utf-8")
    if len(text) > LONGEST:
        return head + f"A file of the repository, {len(text):,} characters long."
    return head + f"``````{LANGUAGES.get(path.suffix, 'text')}\n{text}\n``````\n"
