"""Hooks of mkdocs: convert formulas to MathML, which browsers render without scripts, and remove comments for tests."""

import html
import re
from typing import Any

from latex2mathml.converter import convert

_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)
_COMMENT = re.compile(r"<!--.*?-->\n?", re.DOTALL)
_FENCE = re.compile(r"^(```.*?^```$)", re.DOTALL | re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Remove HTML comments outside code blocks."""
    parts = _FENCE.split(markdown)
    return "".join(part if part.startswith("```") else _COMMENT.sub("", part) for part in parts)


def on_page_content(content: str, **_: Any) -> str:
    """Convert the formulas that arithmatex marked to MathML."""

    def mathml(found: re.Match[str]) -> str:
        return convert(html.unescape(found[3]).strip(), display="block" if found[2] == "[" else "inline")

    return _FORMULA.sub(mathml, content)
