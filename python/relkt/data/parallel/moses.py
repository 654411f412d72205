"""Moses pairs: two files whose lines correspond, ``NAME.en`` and ``NAME.de``."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

from relkt.data.parallel.languages import language_code
from relkt.data.parallel.records import Record, lines_of
from relkt.data.types import DataError


def moses_files(path: Path) -> dict[str, Path] | None:
    """Finds the files of a Moses corpus by language, from one of the files or from their common name.

    Returns:
        Language -> file; None if ``path`` is not part of a Moses corpus.

    Raises:
        DataError: If ``path`` is a file ``NAME.LANG`` without the other file of a pair next to it.
    """
    stem, code = _split(path.name) if path.is_file() else (path.name, None)
    if path.is_file() and code is None:
        return None
    found: dict[str, Path] = {}
    for other in sorted(path.parent.glob(f"{_escaped(stem)}.*")) if path.parent.is_dir() else []:
        base, language = _split(other.name)
        if base == stem and language is not None and other.is_file():
            found.setdefault(language, other)
    if code not in (None, "en"):
        found = {language: file for language, file in found.items() if language in ("en", code)}
    if "en" in found and len(found) > 1:
        return found
    if path.is_file():
        raise DataError(
            f"{path}: expected the other file of a Moses pair next to it ({stem}.en and {stem}.LANG), got none"
        )
    return None


def _split(name: str) -> tuple[str, str | None]:
    """A name without its language ending (``.de``, ``.deu``, ``.de.gz``), and the language."""
    stem, _, tag = name.removesuffix(".gz").rpartition(".")
    code = language_code(tag) if tag.isalpha() else None
    return stem, code if code is not None and len(code) == 2 else None


def _escaped(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def read_moses(files: dict[str, Path]) -> Iterator[Record]:
    """Reads the files line by line; a record holds the lines with the same number in all files.

    Raises:
        DataError: If the files have different numbers of lines.
    """
    readers = [lines_of(path) for path in files.values()]
    for rows in zip_longest(*readers):
        if None in rows:
            ended = [str(path) for path, row in zip(files.values(), rows, strict=True) if row is None]
            number = next(row[0] for row in rows if row is not None)
            raise DataError(f"{ended[0]}: expected as many lines as its pair, got {number - 1}; the other has more")
        yield Record(
            f"{files['en']}, line {rows[0][0]}",
            {language: row[1] for language, row in zip(files, rows, strict=True)},
        )
