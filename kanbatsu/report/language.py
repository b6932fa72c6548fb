"""The report's languages: every text comes from texts/<language>.toml, by its key."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from markupsafe import Markup

Language = Literal["en", "ja"]
LANGUAGES: tuple[Language, ...] = get_args(Language)

TAGS = {
    "code": Markup("<code>"),
    "em": Markup("<em>"),
    "mark": Markup("<mark>"),
}
"""Tags that a text may open; it names the end itself."""


@dataclass(frozen=True)
class Texts:
    """The texts of one language.

    Example:
        >>> texts("en")("decision.adopt", arm="sparse-256"), texts("ja").count("seeds", 5)
        ('Adopt sparse-256', '5 シード')
    """

    language: Language
    table: Mapping[str, str]
    """Texts by dotted key."""

    def __call__(self, key: str, /, **values: Any) -> str:
        """Return a text with its values filled in.

        Raises:
            KeyError: No such text, or a value for it is missing.
        """
        return self.table[key].format(**values)

    def has(self, key: str) -> bool:
        """Whether there is such a text."""
        return key in self.table

    def count(self, noun: str, count: int) -> str:
        """Return a count with its noun, in its number."""
        return self.number(f"count.{noun}", count, count=f"{count:,}")

    def number(self, key: str, count: int, /, **values: Any) -> str:
        """Return the text for one, or that for many."""
        return self(f"{key}.{'one' if count == 1 else 'many'}", **values)

    def listed(self, items: Sequence[str]) -> str:
        """Join items as a sentence does.

        Example:
            >>> texts("en").listed(["a", "b", "c"]), texts("ja").listed(["a", "b", "c"])
            ('a, b and c', 'a、b、c')
        """
        *first, last = items
        if not first:
            return last
        return self("list.between").join(first) + self("list.last") + last

    def html(self, key: str, /, tag: str, to: str = "", **values: Any) -> Markup:
        """Return a text with one pair of tags; what is filled in is escaped.

        Args:
            key: Key of a text with `{<tag>}` and `{end}`.
            tag: One of `TAGS`, or `link`.
            to: Where a `link` leads on this page.
            values: Values for the other places.

        Example:
            >>> str(texts("en").html("configuration.marked", "mark", arm="<b>"))
            '<mark>Marked</mark> values differ from &lt;b&gt;.'
        """
        opened = Markup('<a href="#{}">').format(to) if tag == "link" else TAGS[tag]
        closed = Markup("</a>") if tag == "link" else Markup(f"</{tag}>")
        return Markup(self.table[key]).format(**{tag: opened, "end": closed, **values})


@functools.cache
def texts(language: Language) -> Texts:
    """Read the texts of one language."""
    path = Path(__file__).parent / "texts" / f"{language}.toml"
    return Texts(language, dict(flatten(tomllib.loads(path.read_text(encoding="utf-8")))))


def flatten(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the entries of nested tables under dotted names.

    Example:
        >>> list(flatten({"critic": {"width": 64}}))
        [('critic.width', 64)]
    """
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
