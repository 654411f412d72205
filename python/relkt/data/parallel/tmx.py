"""TMX, the exchange format of translation memories."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast
from xml.etree import ElementTree

from relkt.data.parallel.languages import language_code
from relkt.data.parallel.records import Record, open_file
from relkt.data.types import DataError

_XML_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"


def read_tmx(path: Path, language: str | None = None) -> Iterator[Record]:
    """Reads the translation units of a TMX file as a stream.

    Markup inside a segment (``<bpt>``, ``<ph>``, ...) is removed; the text around it and highlighted text (``<hi>``)
    are kept. If a unit has several texts in a language (``en-US`` and ``en-GB``), the first is used.

    Args:
        path: The file.
        language: Ignored: each segment names its language.

    Raises:
        DataError: If the file is not well-formed XML, or defines entities.
    """
    del language
    count = 0
    with open_file(path) as file:
        try:
            parser: Any = ElementTree.XMLPullParser(("start", "end"))
            root: ElementTree.Element | None = None
            while data := file.read(1 << 16):
                if b"<!ENTITY" in data:
                    raise DataError(f"{path}: expected TMX without entity definitions, got one")
                parser.feed(data)
                for event, element in cast("Iterator[tuple[str, ElementTree.Element]]", parser.read_events()):
                    if root is None:
                        root = element
                    if event == "end" and _name(element) == "tu":
                        count += 1
                        yield Record(f"{path}, unit {count}", _texts(element))
                        root.clear()  # keeps memory flat
            parser.close()
        # If the parser does not know the encoding, it raises a LookupError or a ValueError.
        except (
            ElementTree.ParseError,
            EOFError,
            OSError,
            LookupError,
            ValueError,
            RecursionError,
            zlib.error,
        ) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{path}, after unit {count}: expected TMX, got an error: {error}") from error


def _texts(unit: ElementTree.Element) -> dict[str, str]:
    found: dict[str, str] = {}
    for variant in unit:
        if _name(variant) != "tuv":
            continue
        code = language_code(variant.get(_XML_LANGUAGE) or variant.get("lang") or "")
        segment = next((child for child in variant if _name(child) == "seg"), None)
        if code is not None and segment is not None:
            found.setdefault(code, _text(segment))
    return found


def _text(element: ElementTree.Element) -> str:
    inside = (_text(child) if _name(child) == "hi" else "" for child in element)
    return (element.text or "") + "".join(
        text + (child.tail or "") for text, child in zip(inside, element, strict=True)
    )


def _name(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]
