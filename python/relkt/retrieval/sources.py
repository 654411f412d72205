"""Sources of passages: JSON lines, CSV, Parquet, the BEIR layout, plain text, and memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from relkt.data.parsing import iter_lines
from relkt.data.records import JSON_LINES, TABLES, Record, read_records
from relkt.data.types import DataArgumentError, DataError, Passage
from relkt.retrieval.kinds import TextUnit
from relkt.retrieval.passages import IndexedPassage
from relkt.storage import sha256_of

CORPUS = "corpus.jsonl"
"""The passages' file in a folder of the BEIR layout."""

_PLAIN = (".txt", ".md")
ENDINGS = (*JSON_LINES, *TABLES, *_PLAIN)


@dataclass(frozen=True)
class Columns:
    """The columns (or JSON keys) of a source; columns not named here are kept as further fields.

    Args:
        text: The text to embed.
        id: The unique id. Ids are texts or integers; integers become texts. Default: ``_id`` or ``id``, if present;
            otherwise the row number is the id.
        title: The title. Default: ``title``, if present.
        document: The document. Default: ``document``, if present.
        language: The language. Default: ``language``, if present.
        left_out: Columns to drop.
    """

    text: str = "text"
    id: str | None = None
    title: str | None = None
    document: str | None = None
    language: str | None = None
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """Passages that can be read repeatedly.

    Args:
        records: Returns a new iterator over records and their places.
        columns: The meaning of the records' keys.
        fingerprint: Returns values that identify the current passages without reading them, e.g. paths, sizes and
            modification times.
        name: The source's name in messages.
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
    """A source of passages in files. This call only checks that the files exist; they are read later.

    Args:
        path: One file or several: JSON lines (``.jsonl``, ``.ndjson``), CSV with a header (``.csv``, or ``.tsv`` with
            tabs; all values are texts), Parquet (``.parquet``; columns of embeddings are dropped) or plain text
            (``.txt``, ``.md``); or a folder. A folder with ``corpus.jsonl`` has the BEIR layout. In any other folder,
            all tables are read in the order of their names; if there are no tables, all plain texts are read instead.
        columns: The meaning of the columns. In the BEIR layout, ``document`` and ``language`` may be in ``metadata``.
        unit: The unit of a plain text that becomes a passage. The passage's document is the file name; its id is the
            file name and the line.

    Raises:
        DataError: If a file does not exist or is of an unknown kind, or no file is given.
    """
    paths = [path] if isinstance(path, str | os.PathLike) else list(path)
    unit = TextUnit(unit)
    files = [file for given in paths for file in _files(Path(given))]
    if not files:
        raise DataArgumentError("path", "at least one file", "none")
    if repeated := {file for file in files if files.count(file) > 1}:
        raise DataArgumentError("path", "each file once", f"{sorted(map(str, repeated))[0]} more than once")
    plain = [file for file in files if file.suffix.lower() in _PLAIN]
    if plain and len(plain) < len(files):
        others = next(file for file in files if file not in plain)
        raise DataArgumentError("path", "plain text or tables", f"both: {plain[0]} and {others}")
    if plain:
        if len({file.name for file in plain}) < len(plain):
            raise DataArgumentError("path", "files of different names, since passage ids contain them", "a name twice")
        if columns is not None:
            raise DataArgumentError("columns", "none for plain text, which has no columns", columns)
        columns = Columns(id="id", document="document")
    columns = columns or Columns()
    names = columns

    def records() -> Iterator[Record]:
        for file in files:
            yield from _text_records(file, unit) if plain else read_records(file)

    name = ", ".join(str(file) for file in files[:3])
    return Source(records, names, lambda: _fingerprint(files, names, unit), name)


def from_passages(passages: Iterable[IndexedPassage | Passage | Mapping[str, Any] | str]) -> Source:
    """A source of passages in memory.

    Args:
        passages: Texts, mappings with the default keys of :class:`Columns`, or passage objects. An iterator is
            consumed.

    Raises:
        TypeError: If an item is of another type.
    """
    if isinstance(passages, str | Mapping):
        raise TypeError(f"passages: expected several passages, got one {type(passages).__name__}")
    records = [_values(passage, row) for row, passage in enumerate(passages)]
    located = [(f"passages, row {row}", record) for row, record in enumerate(records)]
    fingerprint = ("memory", sha256_of(map(repr, records)))
    return Source(lambda: iter(located), Columns(), lambda: fingerprint, "passages")


def _values(passage: object, row: int) -> Mapping[str, Any]:
    if isinstance(passage, str):
        return {"text": passage}
    if isinstance(passage, IndexedPassage):
        own = {"id": passage.id, "text": passage.text}
        for name in ("title", "document", "language"):
            if getattr(passage, name) is not None:
                own[name] = getattr(passage, name)
        if clash := sorted(own.keys() & passage.fields.keys()):
            raise ValueError(
                f"passages: expected other names of fields than {', '.join(own)}, got {clash[0]!r} in row {row}"
            )
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
        # A README next to tables describes them; it is not a source.
        found = [file for file in found if file.suffix.lower() not in _PLAIN] or found
        if not found:
            expected = f"{CORPUS} or files of {', '.join(ENDINGS)} in the folder {path}"
            raise DataArgumentError("path", expected, "none")
        return found
    if not path.exists():
        raise DataError(f"{path}: file not found")
    if path.suffix.lower() not in ENDINGS:
        raise DataArgumentError("path", f"a file whose name ends in {', '.join(ENDINGS)}", path)
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
