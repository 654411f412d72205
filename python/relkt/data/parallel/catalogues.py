"""Message catalogues of gettext (PO and MO), whose ``msgid`` is English."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path

from relkt.data.parallel.languages import language_code
from relkt.data.parallel.records import Record
from relkt.data.parallel.text import UNKNOWN_LANGUAGE
from relkt.data.types import DataError

# Accelerator keys of menus: "_Open", "&Open", "~Open".
_ACCELERATOR = re.compile(r"(?<!\w)[_&~](?=\w)|(?<=\w)[_&~](?=[^\W_])")
_MARKUP = re.compile(r"<[^<>]+>")


def read_catalogue(path: Path, language: str | None) -> Iterator[Record]:
    """Reads the messages of a catalogue; obsolete, fuzzy and plural messages are marked with a ``problem``.

    Accelerator marks (``_Open``) and markup are removed on both sides.

    Args:
        path: A ``.po``, ``.pot`` or ``.mo`` file.
        language: The language; None takes it from the catalogue's header, a folder ``LANG/LC_MESSAGES`` or the name of
            the file (``de.po``).

    Raises:
        DataError: If the file is not a catalogue.
        ImportError: If polib is not installed.
    """
    try:
        import polib
    except ImportError as error:
        raise ImportError("reading .po and .mo files needs polib: pip install 'relkt[parallel]'") from error
    try:
        read = polib.mofile if path.suffix.lower() == ".mo" else polib.pofile
        catalogue = read(str(path))
    except (OSError, ValueError, LookupError, struct.error) as error:
        raise DataError(f"{path}: expected a gettext catalogue, got an error: {error}") from error
    code = language or _language(path, str(catalogue.metadata.get("Language", "")))
    for number, entry in enumerate(catalogue, start=1):
        where = f"{path}, message {number}"
        translation = entry.msgstr or (entry.msgstr_plural.get(0, "") if entry.msgstr_plural else "")
        fuzzy = "fuzzy" in getattr(entry, "flags", ())  # compiled catalogues have no flags and no fuzzy messages
        problem = "obsolete" if entry.obsolete else "fuzzy" if fuzzy else ""
        if entry.msgid_plural:
            problem = problem or "plural forms"
        yield Record(where, {"en": _plain(entry.msgid), code: _plain(translation)}, problem)


def _language(path: Path, header: str) -> str:
    if code := language_code(header):
        return code
    if path.parent.name == "LC_MESSAGES" and (code := language_code(path.parent.parent.name)):
        return code
    stem = path.name.removesuffix(path.suffix)
    return (language_code(stem) if len(stem) <= 6 else None) or UNKNOWN_LANGUAGE


def _plain(text: str) -> str:
    return _ACCELERATOR.sub("", _MARKUP.sub(" ", text))
