"""Converts Sphinx roles in docstrings to inline code, because Markdown has no roles."""

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:class|func|meth|data|attr|mod|exc):`(~?)([^`]+)`")


class Roles(griffe.Extension):
    """Replaces the roles in each docstring."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Replace roles: ``:class:`~relkt.Index``` becomes ```Index```."""
        if obj.docstring:
            obj.docstring.value = _ROLE.sub(_as_code, obj.docstring.value)


def _as_code(role: re.Match[str]) -> str:
    return f"`{role[2].rpartition('.')[2] if role[1] else role[2]}`"
