"""Docstrings name things by Sphinx' roles, which Markdown does not know; in the pages they become plain code."""

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:class|func|meth|data|attr|mod|exc):`(~?)([^`]+)`")


class Roles(griffe.Extension):
    """Replaces roles when an object's docstring is read."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """``:class:`~relkt.Index``` becomes ```Index```."""
        if obj.docstring:
            obj.docstring.value = _ROLE.sub(_as_code, obj.docstring.value)


def _as_code(role: re.Match[str]) -> str:
    return f"`{role[2].rpartition('.')[2] if role[1] else role[2]}`"
