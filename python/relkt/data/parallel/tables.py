"""Parallel text as tab-separated columns or JSON lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from relkt.data.parallel.languages import is_known, language_code, language_in_name
from relkt.data.parallel.records import Record, lines_of
from relkt.data.parallel.text import UNKNOWN_LANGUAGE
from relkt.data.parsing import parse_object, shorten, unicode_text
from relkt.data.types import DataError

_ENGLISH = ("en", "english", "anchor")
_OTHER = ("text", "non_english", "translation", "positive", "target")


def read_tsv(path: Path, language: str | None) -> Iterator[Record]:
    """Reads columns separated by tabs, without quoting; skips blank lines.

    If the header has language codes (``en``, ``de``, ``fr``, ...), each line holds one text in these languages, and
    cells may be empty. The header may instead be ``english``, ``text`` or ``english``, ``text``, ``language``. If there
    is no header, each line holds an English text, its translation and, in an optional third column, the translation's
    language.

    Args:
        path: The file.
        language: Language of translations, where the file does not name it; None takes it from the file's name.

    Raises:
        DataError: If lines have different numbers of columns.
    """
    default = language or language_in_name(path.name) or UNKNOWN_LANGUAGE
    header: list[str] | None = None
    width = 0
    for number, line in lines_of(path):
        if not line.strip():
            continue
        cells = line.split("\t")
        where = f"{path}, line {number}"
        if not width:
            width = len(cells)
            if width < 2:
                raise DataError(f"{where}: expected columns separated by tabs (English, translation), got one column")
            header = _header(cells)
            if header is not None:
                continue
            if width > 3:
                raise DataError(
                    f"{where}: expected a header of language codes, or 2 or 3 columns (English, translation, "
                    f"language), got {width} columns starting {shorten(cells[0])}"
                )
        if len(cells) != width:
            raise DataError(f"{where}: expected {width} columns as in the first line, got {len(cells)}")
        if header is None:
            yield Record(where, {"en": cells[0], _tag(cells[2], where) if width == 3 else default: cells[1]})
        elif "text" in header:
            row = dict(zip(header, cells, strict=True))
            code = _tag(row["language"], where) if "language" in row else default
            yield Record(where, {"en": row["en"], code: row["text"]})
        else:
            yield Record(where, {code: cell for code, cell in zip(header, cells, strict=True) if cell.strip()})


def _header(cells: list[str]) -> list[str] | None:
    """Column names of a header: language codes with ``en``, or ``en``, ``text``, ``language``; None if not a header."""
    names = [cell.strip().lower() for cell in cells]
    if names[0] in _ENGLISH and names[1] in _OTHER:
        return ["en", "text", *(["language"] if names[2:3] == ["language"] else names[2:])]
    codes = [code for code in map(language_code, names) if code]
    if "en" in codes and len(set(codes)) == len(names) and all(len(name) <= 12 for name in names):
        return codes
    return None


def _tag(value: str, where: str) -> str:
    code = language_code(value)
    if code is None:
        raise DataError(f"{where}: expected a language code such as de or pt_BR, got {shorten(value)}")
    return code


def read_json_lines(path: Path, language: str | None) -> Iterator[Record]:
    """Reads JSON lines.

    An object has one of these forms:

    - ``{"en": ..., "de": ...}``: a text for each language code;
    - the same in an object ``translation``, as in OPUS on the Hub;
    - ``{"english": ..., "non_english": ...}``, as in sentence-transformers' parallel data sets. The second key may also
      be ``text``; an optional key ``language`` names its language.

    Args:
        path: The file.
        language: As for :func:`read_tsv`.

    Raises:
        DataError: If a line is not a JSON object, or has no English text.
    """
    default = language or language_in_name(path.name) or UNKNOWN_LANGUAGE
    for number, line in lines_of(path):
        if line.strip():
            where = f"{path}, line {number}"
            yield Record(where, texts_of(parse_object(path, number, line), default, where))


def texts_of(record: Mapping[str, Any], default: str, where: str) -> dict[str, str]:
    """Returns the texts of one object by language; :func:`read_json_lines` describes its forms.

    Raises:
        DataError: If it has another form.
    """
    # Other keys, such as ids and scores, are skipped.
    nested = record.get("translation")
    if isinstance(nested, Mapping):
        record = nested
    english = next((record[name] for name in _ENGLISH if name in record), None)
    if english is None:
        raise DataError(
            f"{where}: expected an English text in 'en' or 'english', got only "
            f"{', '.join(map(repr, record)) or 'an empty object'}"
        )
    other = next((name for name in _OTHER if isinstance(record.get(name), str)), None)
    if other is not None:
        code = _tag(str(record["language"]), where) if "language" in record else default
        return _strings({"en": english, code: record[other]}, where)
    names = [name for name in record if is_known(name) and language_code(name) != "en" and record[name] is not None]
    if "id" in names and (len(names) > 1 or not isinstance(record["id"], str)):
        names.remove("id")  # the record's id, not Indonesian
    return _strings({"en": english, **{str(language_code(name)): record[name] for name in names}}, where)


def _strings(texts: dict[str, Any], where: str) -> dict[str, str]:
    for code, text in texts.items():
        if not isinstance(text, str):
            raise DataError(f"{where}: expected a string in {code!r}, got {shorten(text)}")
        unicode_text(text, code, where)
    return texts
