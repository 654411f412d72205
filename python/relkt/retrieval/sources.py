"""Passages out of files: JSON lines, CSV, Parquet, the BEIR layout, and plain text."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from relkt.data.parsing import iter_lines
from relkt.data.records import JSON_LINES, TABLES, Record, read_records
from relkt.data.types import DataError, Passage
from relkt.retrieval.kinds import TextUnit
from relkt.retrieval.passages import IndexedPassage

CORPUS = "corpus.jsonl"
"""The file of passages in a folder of the BEIR layout."""

_PLAIN = (".txt", ".md")
ENDINGS = (*JSON_LINES, *TABLES, *_PLAIN)


@dataclass(frozen=True)
class Columns:
    """Which column, or key, of a source holds what; all others are kept as further fields.

    Args:
        text: The text, which is embedded.
        id: The id, unique: texts or integers, which are kept as texts. Default: ``_id`` or ``id``, whichever there is;
            without either, passages are called by their rows.
        title: The title. Default: ``title``, if there is one.
        document: The document. Default: ``document``, if there is one.
        language: The language. Default: ``language``, if there is one.
        left_out: Columns that are not kept.
    """

    text: str = "text"
    id: str | None = None
    title: str | None = None
    document: str | None = None
    language: str | None = None
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """Passages that can be read more than once.

    Args:
        records: Begins reading from the start: records, and where each is.
        columns: What their keys mean.
        fingerprint: What tells these passages from others without reading them, such as paths, sizes and times, now.
        name: What to call it in messages.
    """

    records: Callable[[], Iterator[Record]]
    columns: Columns
    fingerprint: Callable[[], tuple[Any, ...]]
    name: str


def read_passages(
    path: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    columns: Columns | None = None,
    unit: TextUnit = TextUnit.LINE,
) -> Source:
    """Passages of files. Nothing is read yet, but for a look whether the files are there.

    Args:
        path: One file or several: JSON lines (``.jsonl``, ``.ndjson``), CSV with a header (``.csv``, or ``.tsv`` with
            tabs; all values are texts), Parquet (``.parquet``; columns of embeddings are left out) or plain text
            (``.txt``, ``.md``); or a folder: of the BEIR layout, that is with ``corpus.jsonl``, or else all tables in
            it, by name, or if there are none all plain texts.
        columns: Which column or key holds what. In the BEIR layout, ``document`` and ``language`` are also found in
            ``metadata``.
        unit: What is a passage in plain text; its document is the file's name, its id the file's name and the line.

    Raises:
        DataError: If there is no such file, or no file that can be read.
    """
    paths = [path] if isinstance(path, str | os.PathLike) else list(path)
    unit = TextUnit(unit)
    files = [file for given in paths for file in _files(Path(given))]
    if not files:
        raise DataError("path: expected at least one file, got none")
    if repeated := {file for file in files if files.count(file) > 1}:
        raise DataError(f"path: expected each file once, got {sorted(map(str, repeated))[0]} more than once")
    plain = [file for file in files if file.suffix.lower() in _PLAIN]
    if plain and len(plain) < len(files):
        others = next(file for file in files if file not in plain)
        raise DataError(f"path: expected plain text or tables, got both: {plain[0]} and {others}")
    if plain:
        if len({file.name for file in plain}) < len(plain):
            raise DataError("path: expected files of different names, as their passages are called by them")
        if columns is not None:
            raise DataError(f"columns: expected none for plain text, which has no columns, got {columns}")
        columns = Columns(id="id", document="document")
    columns = columns or Columns()
    names = columns

    def records() -> Iterator[Record]:
        for file in files:
            yield from _text_records(file, unit) if plain else read_records(file)

    name = ", ".join(str(file) for file in files[:3])
    return Source(records, names, lambda: _fingerprint(files, names, unit), name)


def from_passages(passages: Iterable[IndexedPassage | Passage | Mapping[str, Any] | str]) -> Source:
    """Passages in memory as a source.

    Args:
        passages: Texts, mappings with the keys of :class:`Columns`' defaults, or passages. An iterator is read to its
            end at once.

    Raises:
        TypeError: If one is something else.
    """
    if isinstance(passages, str | Mapping):
        raise TypeError(f"passages: expected several passages, got one {type(passages).__name__}")
    records = [_values(passage, row) for row, passage in enumerate(passages)]
    located = [(f"passages, row {row}", record) for row, record in enumerate(records)]
    digest = hashlib.sha256()
    for record in records:
        digest.update(repr(record).encode("utf-8", "surrogatepass"))
    found = ("memory", digest.hexdigest())
    return Source(lambda: iter(located), Columns(), lambda: found, "passages")


def _values(passage: object, row: int) -> Mapping[str, Any]:
    if isinstance(passage, str):
        return {"text": passage}
    if isinstance(passage, IndexedPassage):
        own = {"id": passage.id, "text": passage.text}
        for name in ("title", "document", "language"):
            if getattr(passage, name) is not None:
                own[name] = getattr(passage, name)
        if clash := sorted(own.keys() & passage.fields.keys()):
            raise ValueError(f"passages: a field in row {row} is called {clash[0]!r} as the passage's own")
        return own | dict(passage.fields)
    if isinstance(passage, Passage):
        return {
            "id": passage.id,
            "text": passage.text,
            "title": passage.title or None,
            "document": passage.document,
            "language": passage.language,
        }
    if isinstance(passage, Mapping):
        return {name: value.item() if isinstance(value, np.generic) else value for name, value in passage.items()}
    raise TypeError(f"passages: expected texts, mappings or passages, got {type(passage).__name__} in row {row}")


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        if (path / CORPUS).is_file():
            return [path / CORPUS]
        found = sorted(file for file in path.iterdir() if file.is_file() and file.suffix.lower() in ENDINGS)
        # A README beside tables is about them, not of them.
        found = [file for file in found if file.suffix.lower() not in _PLAIN] or found
        if not found:
            raise DataError(f"path: expected {CORPUS} or files of {', '.join(ENDINGS)} in the folder {path}, got none")
        return found
    if not path.exists():
        raise DataError(f"{path}: file not found")
    if path.suffix.lower() not in ENDINGS:
        raise DataError(f"path: expected a file whose name ends in {', '.join(ENDINGS)}, got {path}")
    return [path]


def _fingerprint(files: list[Path], columns: Columns, unit: TextUnit) -> tuple[Any, ...]:
    stats = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return (stats, repr(columns), unit.value)


def _text_records(path: Path, unit: TextUnit) -> Iterator[Record]:
    started, lines = 0, list[str]()

    def passage() -> Record:
        record = {"id": f"{path.name}:{started}", "text": " ".join(lines), "document": path.name}
        return f"{path}, line {started}", record

    for number, line in iter_lines(path):
        text = line.strip()
        if lines and (not text or unit is TextUnit.LINE):
            yield passage()
            lines = []
        if text:
            started = started if lines else number
            lines.append(text)
    if lines:
        yield passage()
