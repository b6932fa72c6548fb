"""Formulas become MathML when the site is built: no script draws them, and nothing is fetched."""

import html
import re

from latex2mathml.converter import convert

FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
KNOWN = {r"\arg": r"\operatorname{arg}", "{aligned}": "{align*}"}
"""Names of LaTeX that the converter has under another name."""


def on_page_content(html: str, **_: object) -> str:
    """Turn the formulas of a page into MathML."""
    return FORMULA.sub(_formula, html)


def _formula(found: re.Match[str]) -> str:
    tex = html.unescape(found[2])
    for latex, known in KNOWN.items():
        tex = tex.replace(latex, known)
    return convert(tex, display="block" if found[1] == "div" else "inline")
