"""Passages out of files: JSON lines, CSV, Parquet, the BEIR layout, and plain text."""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from relkt.data.files import iter_json_lines, iter_lines
from relkt.data.types import DataError, Passage
from relkt.retrieval.passages import IndexedPassage

CORPUS = "corpus.jsonl"
"""The file of passages in a folder of the BEIR layout."""

Record = Mapping[str, Any]
Located = tuple[str, Record]
"""Where a record is, for errors, and the record."""


class TextUnit(str, Enum):
    """What is a passage in a plain text file."""

    LINE = "line"
    """Every line that is not blank."""
    PARAGRAPH = "paragraph"
    """Lines between blank ones, joined by spaces."""


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
    """

    text: str = "text"
    id: str | None = None
    title: str | None = None
    document: str | None = None
    language: str | None = None


@dataclass(frozen=True)
class Source:
    """Passages that can be read more than once.

    Args:
        records: Begins reading from the start: records, and where each is.
        columns: What their keys mean.
        fingerprint: What tells these passages from others without reading them, such as paths, sizes and times.
        name: What to call it in messages.
    """

    records: Callable[[], Iterator[Located]]
    columns: Columns
    fingerprint: tuple[Any, ...]
    name: str


def read_passages(
    path: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    columns: Columns | None = None,
    unit: TextUnit = TextUnit.LINE,
) -> Source:
    """Passages of files. Nothing is read yet, but for a look whether the files are there.

    Args:
        path: One file or several: JSON lines (``.jsonl``, ``.ndjson``, ``.json``), CSV with a header (``.csv``, or
            ``.tsv`` with tabs; all values are texts), Parquet (``.parquet``) or plain text (``.txt``, ``.md``); or a
            folder: of the BEIR layout, that is with ``corpus.jsonl``, or else all such files in it, by name.
        columns: Which column or key holds what. In the BEIR layout, ``document`` and ``language`` are also found in
            ``metadata``.
        unit: What is a passage in plain text; its document is the file's name, its id the file's name and the line.

    Raises:
        DataError: If there is no such file, or no file that can be read.
    """
    paths = [path] if isinstance(path, str | os.PathLike) else list(path)
    columns = columns or Columns()
    files = [file for given in paths for file in _files(Path(given))]
    if not files:
        raise DataError("path: expected at least one file, got none")
    if repeated := {file for file in files if files.count(file) > 1}:
        raise DataError(f"path: expected each file once, got {sorted(map(str, repeated))[0]} more than once")
    plain = [file for file in files if file.suffix.lower() in _TEXT]
    if plain and len(plain) < len(files):
        others = next(file for file in files if file not in plain)
        raise DataError(f"path: expected plain text or tables, got both: {plain[0]} and {others}")
    if plain:
        if len({file.name for file in plain}) < len(plain):
            raise DataError("path: expected files of different names, as their passages are called by them")
        columns = Columns(id="id", document="document")

    def records() -> Iterator[Located]:
        for file in files:
            yield from _READERS[file.suffix.lower()](file, unit)

    return Source(records, columns, _fingerprint(files, columns, unit), ", ".join(str(file) for file in files[:3]))


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
    records = [_record(passage, row) for row, passage in enumerate(passages)]
    located = [(f"passages, row {row}", record) for row, record in enumerate(records)]
    digest = hashlib.sha256()
    for record in records:
        digest.update(repr(record).encode("utf-8", "surrogatepass"))
    return Source(lambda: iter(located), Columns(), ("memory", digest.hexdigest()), "passages")


def _record(passage: object, row: int) -> Record:
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
        return dict(passage)
    raise TypeError(f"passages: expected texts, mappings or passages, got {type(passage).__name__} in row {row}")


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        if (path / CORPUS).is_file():
            return [path / CORPUS]
        found = sorted(file for file in path.iterdir() if file.is_file() and file.suffix.lower() in _READERS)
        if not found:
            raise DataError(f"path: expected {CORPUS} or files of {_endings()} in the folder {path}, got none")
        return found
    if not path.exists():
        raise DataError(f"{path}: file not found")
    if path.suffix.lower() not in _READERS:
        raise DataError(f"path: expected a file whose name ends in {_endings()}, got {path}")
    return [path]


def _endings() -> str:
    return ", ".join(_READERS)


def _fingerprint(files: list[Path], columns: Columns, unit: TextUnit) -> tuple[Any, ...]:
    stats = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return (stats, repr(columns), unit.value)


def _json_records(path: Path, unit: TextUnit) -> Iterator[Located]:  # noqa: ARG001
    for number, record in iter_json_lines(path):
        yield f"{path}, line {number}", record


def _csv_records(path: Path, unit: TextUnit) -> Iterator[Located]:  # noqa: ARG001
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    # strict: an unbalanced quote is an error instead of a cell that swallows lines.
    rows = csv.reader((line for _, line in iter_lines(path)), delimiter=delimiter, strict=True)
    line = 0
    try:
        header = next(rows, None)
        if header is None:
            raise DataError(f"{path}: expected a header, got an empty file")
        if len(set(header)) < len(header):
            repeated = next(name for name in header if header.count(name) > 1)
            raise DataError(f"{path}, line 1: expected each column once, got {repeated!r} twice")
        line = rows.line_num
        for cells in rows:
            where, line = f"{path}, line {line + 1}", rows.line_num
            if not cells:
                continue  # a blank line, as at the end of many files
            if len(cells) != len(header):
                raise DataError(f"{where}: expected {len(header)} cells, as the header has, got {len(cells)}")
            yield where, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise DataError(f"{path}, line {line + 1}: expected CSV, got an error: {error}") from error


def _parquet_records(path: Path, unit: TextUnit) -> Iterator[Located]:  # noqa: ARG001
    try:
        with pq.ParquetFile(path) as file:
            row = 0
            for batch in file.iter_batches(batch_size=1024):
                for record in batch.to_pylist():
                    yield f"{path}, row {row}", record
                    row += 1
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: expected a Parquet file, got an error: {error}") from error


def _text_records(path: Path, unit: TextUnit) -> Iterator[Located]:
    started, lines = 0, list[str]()

    def passage() -> Located:
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


_JSON, _TABLES, _TEXT = (".jsonl", ".ndjson", ".json"), (".csv", ".tsv"), (".txt", ".md")
_READERS: Mapping[str, Callable[[Path, TextUnit], Iterator[Located]]] = {
    **dict.fromkeys(_JSON, _json_records),
    **dict.fromkeys(_TABLES, _csv_records),
    ".parquet": _parquet_records,
    **dict.fromkeys(_TEXT, _text_records),
}
