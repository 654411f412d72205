"""The passages of an index: a memory-mapped Arrow file."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from relkt._relkt import IndexFileError

Value: TypeAlias = str | int | float | bool | None
"""A value by which passages can be filtered."""
Fields: TypeAlias = Mapping[str, Any]
"""Other columns of a passage, by name."""

ID, TEXT, TITLE, DOCUMENT, LANGUAGE = "id", "text", "title", "document", "language"
OWN_COLUMNS = (ID, TEXT, TITLE, DOCUMENT, LANGUAGE)
"""The columns of every file, in this order; other columns follow."""
NOTES = b"relkt"
"""The key of the notes in the schema's metadata; the notes are JSON."""
JSON_COLUMN = {b"relkt": b"json"}
"""The metadata of a column of JSON texts. Values that are nested or of several types are stored as JSON texts."""
VERSION = 1
"""The version of the file layout."""
BUILD = "build"
"""The note that has the same value in an index and in its passages' file."""
DIGEST = "texts_sha256"
"""The note in an index that holds the checksum of its passages."""


@dataclass(frozen=True)
class IndexedPassage:
    """A passage of an index.

    Args:
        id: The id, unique in the index.
        text: The text that was embedded.
        title: The title of the passage or its document, if known.
        document: The document that the passage belongs to, if known.
        language: The language code, e.g. "en", if known.
        fields: All other columns of the source.
    """

    id: str
    text: str
    title: str | None = None
    document: str | None = None
    language: str | None = None
    fields: Fields = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Id, text, title, document, language and fields."""
        own = {name: getattr(self, name) for name in OWN_COLUMNS}
        return {**own, "fields": dict(self.fields)}


class PassageStore(Sequence[IndexedPassage]):
    """Passages by row.

    Args:
        batches: Record batches with the schema of :func:`relkt.retrieval.store.write_store`.
        schema: Their schema.
        path: Their file, if any.
    """

    def __init__(self, batches: Sequence[pa.RecordBatch], schema: pa.Schema, path: Path | None = None) -> None:
        self._batches = batches
        self._schema = schema
        self._starts = np.cumsum([0, *(len(batch) for batch in batches)], dtype=np.int64)
        self._checked: set[int] = set()
        self._json = [dict(schema.field(name).metadata or {}) == JSON_COLUMN for name in schema.names]
        self.path = path

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> PassageStore:
        """Memory-map a file of passages; texts are read from disk when they are needed.

        Args:
            path: The file.

        Raises:
            OSError: If the file cannot be opened.
            IndexFileError: If the file is of another kind, truncated, or of a newer version.
        """
        path = Path(path)
        try:
            reader = pa.ipc.open_file(pa.memory_map(os.fspath(path)))
            batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
        except pa.ArrowInvalid as error:
            raise IndexFileError(f"{path}: not an Arrow file of passages, or truncated: {error}") from error
        store = cls(batches, reader.schema, path)
        version = store.notes.get("version")
        if tuple(reader.schema.names[: len(OWN_COLUMNS)]) != OWN_COLUMNS or not isinstance(version, int):
            raise IndexFileError(f"{path}: expected columns as relkt writes them, got {reader.schema.names}")
        own = [reader.schema.field(name).type for name in OWN_COLUMNS]
        if any(kind != pa.string() for kind in own):
            raise IndexFileError(f"{path}: expected texts in {', '.join(OWN_COLUMNS)}, got {own}")
        if version > VERSION:
            raise IndexFileError(f"{path}: expected version {VERSION} or lower, got {version}; a newer relkt wrote it")
        return store

    @cached_property
    def notes(self) -> dict[str, Any]:
        """The writer's notes: the layout's version, and how the passages were embedded."""
        text = (self._schema.metadata or {}).get(NOTES)
        try:
            notes = {} if text is None else json.loads(text)
        except ValueError:
            return {}
        return notes if isinstance(notes, dict) else {}

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of all columns: id, text, title, document, language, then the other columns of the source."""
        return tuple(self._schema.names)

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema."""
        return self._schema

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, row: Any) -> Any:
        if isinstance(row, slice):
            return [self[number] for number in range(*row.indices(len(self)))]
        number = int(row) + (len(self) if row < 0 else 0)
        if not 0 <= number < len(self):
            raise IndexError(f"row: expected 0 to {len(self) - 1}, got {row}")
        position = int(np.searchsorted(self._starts, number, side="right")) - 1
        batch, offset = self._batch(position), number - int(self._starts[position])
        values = [_value(column[offset].as_py(), is_json) for column, is_json in zip(batch, self._json, strict=True)]
        by_name = dict(zip(self._schema.names, values, strict=True))
        own = {name: by_name.pop(name) for name in OWN_COLUMNS}
        return IndexedPassage(**own, fields=by_name)

    def _batch(self, position: int) -> list[pa.Array]:
        """The columns of a batch. They are validated once, since Arrow does not check the offsets in a file."""
        batch = self._batches[position]
        if position not in self._checked:
            try:
                batch.validate(full=True)
            except pa.ArrowInvalid as error:
                raise IndexFileError(f"{self.path}: damaged around row {self._starts[position]}: {error}") from error
            self._checked.add(position)
        columns: list[pa.Array] = batch.columns
        return columns

    def __iter__(self) -> Iterator[IndexedPassage]:
        return (self[row] for row in range(len(self)))

    def texts(self, start: int = 0, stop: int | None = None) -> list[str]:
        """The texts of rows ``start`` to ``stop`` (exclusive; default: all)."""
        return self.to_table().column(TEXT)[start:stop].to_pylist()  # type: ignore[no-any-return]

    def digest(self) -> str:
        """SHA-256 of all columns, without the notes."""
        found = hashlib.sha256(repr(self._schema.names).encode())
        for batch in self._batches:
            found.update(batch.replace_schema_metadata(None).serialize())
        return found.hexdigest()

    def to_table(self) -> pa.Table:
        """All columns as an Arrow table, without a copy."""
        return pa.Table.from_batches(self._batches, self._schema)

    def values(self, column: str, limit: int | None = None) -> dict[Any, int]:
        """The values of a column, each with its number of passages; most frequent first, ties by first row.

        Args:
            column: The column.
            limit: Maximum number of values. Default: all.

        Raises:
            ValueError: If the column is unknown, or its values are nested.
        """
        counted = pc.value_counts(self._filterable("column", column))
        pairs = [(entry["values"], entry["counts"]) for entry in counted.to_pylist()]
        pairs.sort(key=lambda pair: -pair[1])
        return dict(pairs[:limit])

    def num_values(self, column: str) -> int:
        """Number of distinct values of a column, without None.

        Raises:
            ValueError: As :meth:`values`.
        """
        return int(pc.count_distinct(self._filterable("column", column), mode="only_valid").as_py())

    def mask(self, where: Mapping[str, Value | Sequence[Value]]) -> NDArray[np.bool_]:
        """A mask of the passages that match a filter.

        Args:
            where: The wanted value of each column, or a list of accepted values; None matches a missing value.

        Returns:
            (n,) bool.

        Raises:
            ValueError: If a column is unknown, its values are nested, or a value has another type than the column.
        """
        mask = np.ones(len(self), dtype=bool)
        for name, wanted in where.items():
            column = self._filterable("where", name)
            values = _as_values(name, column.type, wanted)
            mask &= pc.is_in(column, value_set=values).combine_chunks().to_numpy(zero_copy_only=False)
        return mask

    def parse(self, column: str, text: str) -> Any:
        """Parse a value of a column, e.g. from a command line; an empty text is None.

        Raises:
            ValueError: If the column is unknown, its values are nested, or the text is not of the column's type.
        """
        kind = self._filterable("where", column).type
        try:
            return None if text == "" else pa.array([text]).cast(kind)[0].as_py()
        except pa.ArrowException:
            raise ValueError(f"where: expected a value of type {kind} for {column!r}, got {text!r}") from None

    def _filterable(self, argument: str, name: str) -> pa.ChunkedArray:
        if name not in self._schema.names:
            raise ValueError(f"{argument}: expected a column among {', '.join(self.columns)}, got {name!r}")
        if self._json[self._schema.names.index(name)] or pa.types.is_nested(self._schema.field(name).type):
            raise ValueError(
                f"{argument}: the values of {name!r} are nested or of several types, and cannot be filtered by"
            )
        return self.to_table().column(name)


def _value(value: Any, is_json: bool) -> Any:
    return json.loads(value) if is_json and value is not None else value


def _as_values(name: str, kind: pa.DataType, wanted: object) -> pa.Array:
    """The accepted values of a column, in the column's type."""
    is_one = isinstance(wanted, str | bytes) or not isinstance(wanted, Collection)
    several = [wanted] if is_one else list(wanted)  # type: ignore[call-overload]
    values = [value.item() if isinstance(value, np.generic) else value for value in several]
    for value in values:
        if value is not None and not isinstance(value, _python_types(kind)):
            raise ValueError(f"where: expected a value of type {kind} for {name!r}, got {value!r}")
        # In Python, a bool is an int.
        if isinstance(value, bool) and not pa.types.is_boolean(kind):
            raise ValueError(f"where: expected a value of type {kind} for {name!r}, got {value!r}")
    try:
        return pa.array(values, type=kind)
    except (pa.ArrowException, OverflowError) as error:
        raise ValueError(f"where: expected values of type {kind} for {name!r}, got {values!r}: {error}") from error


def _python_types(kind: pa.DataType) -> tuple[type, ...]:
    types: tuple[tuple[Callable[[pa.DataType], bool], tuple[type, ...]], ...] = (
        (pa.types.is_boolean, (bool,)),
        (pa.types.is_integer, (int,)),
        (pa.types.is_floating, (int, float)),
        (pa.types.is_binary, (bytes,)),
        (pa.types.is_timestamp, (datetime.datetime,)),
        (pa.types.is_date, (datetime.date,)),
        (pa.types.is_time, (datetime.time,)),
    )
    return next((found for fits, found in types if fits(kind)), (str,))


def is_plain_name(name: str) -> bool:
    """True if a name is a file name without a path."""
    return name not in ("", ".", "..") and not any(separator in name for separator in "/\\:\0")
