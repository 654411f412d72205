"""The passages behind the rows of an index: an Arrow file, memory-mapped."""

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
"""What a passage can be filtered by."""
Fields: TypeAlias = Mapping[str, Any]
"""Further columns of a passage, by name."""

ID, TEXT, TITLE, DOCUMENT, LANGUAGE = "id", "text", "title", "document", "language"
OWN_COLUMNS = (ID, TEXT, TITLE, DOCUMENT, LANGUAGE)
"""The columns that every file has, in this order; further ones come behind them."""
NOTES = b"relkt"
"""The key of the schema's metadata under which notes are kept, as JSON."""
JSON_COLUMN = {b"relkt": b"json"}
"""The metadata of a column whose texts are JSON: its values were nested or of several types."""
VERSION = 1
"""Of the layout of the file."""
BUILD = "build"
"""The note, in the index and in the file of its passages, by which they know each other."""
DIGEST = "texts_sha256"
"""The note, in the index, of the digest of its passages."""


@dataclass(frozen=True)
class IndexedPassage:
    """A passage of an index.

    Args:
        id: Its id, unique in the index.
        text: What was embedded.
        title: Its title, or its document's; None if there is none.
        document: The document it belongs to; None if none was named.
        language: The code of its language, such as "en"; None if none was named.
        fields: Every further column of the source.
    """

    id: str
    text: str
    title: str | None = None
    document: str | None = None
    language: str | None = None
    fields: Fields = field(default_factory=dict)


class PassageStore(Sequence[IndexedPassage]):
    """Passages by row.

    Args:
        batches: Record batches of the schema that :func:`relkt.retrieval.store.write_store` writes.
        schema: Their schema.
        path: Their file, if they come from one.
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
        """Open a file of passages where it lies: texts are read from the disk when they are asked for.

        Args:
            path: The file.

        Raises:
            OSError: If it cannot be opened.
            IndexFileError: If it is no such file, was cut short, or has a newer version.
        """
        path = Path(path)
        try:
            reader = pa.ipc.open_file(pa.memory_map(os.fspath(path)))
            batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
        except pa.ArrowInvalid as error:
            raise IndexFileError(f"{path}: expected an Arrow file of passages, or it was cut short: {error}") from error
        store = cls(batches, reader.schema, path)
        version = store.notes.get("version")
        if tuple(reader.schema.names[: len(OWN_COLUMNS)]) != OWN_COLUMNS or not isinstance(version, int):
            raise IndexFileError(f"{path}: expected passages as relkt writes them, got {reader.schema.names}")
        own = [reader.schema.field(name).type for name in OWN_COLUMNS]
        if any(kind != pa.string() for kind in own):
            raise IndexFileError(f"{path}: expected texts in {', '.join(OWN_COLUMNS)}, got {own}")
        if version > VERSION:
            raise IndexFileError(f"{path}: has version {version}, and this relkt knows them up to {VERSION}")
        return store

    @cached_property
    def notes(self) -> dict[str, Any]:
        """What whoever wrote the file noted of it: its version, and how its passages were embedded."""
        text = (self._schema.metadata or {}).get(NOTES)
        try:
            notes = {} if text is None else json.loads(text)
        except ValueError:
            return {}
        return notes if isinstance(notes, dict) else {}

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of all columns: id, text, title, document, language, and those of the source behind them."""
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
            raise IndexError(f"row: expected one from 0 to {len(self) - 1}, got {row}")
        position = int(np.searchsorted(self._starts, number, side="right")) - 1
        batch, offset = self._batch(position), number - int(self._starts[position])
        values = [_value(column[offset].as_py(), is_json) for column, is_json in zip(batch, self._json, strict=True)]
        by_name = dict(zip(self._schema.names, values, strict=True))
        own = {name: by_name.pop(name) for name in OWN_COLUMNS}
        return IndexedPassage(**own, fields=by_name)

    def _batch(self, position: int) -> list[pa.Array]:
        """The columns of a batch, once it has been looked through: Arrow trusts what lies in a file."""
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
        """SHA-256 of all columns, of the whole file but for its notes."""
        found = hashlib.sha256(repr(self._schema.names).encode())
        for batch in self._batches:
            found.update(batch.replace_schema_metadata(None).serialize())
        return found.hexdigest()

    def to_table(self) -> pa.Table:
        """All columns as an Arrow table; nothing is copied."""
        return pa.Table.from_batches(self._batches, self._schema)

    def values(self, column: str, limit: int | None = None) -> dict[Any, int]:
        """The values of a column, and how many passages have each, most frequent first (ties: as they come).

        Args:
            column: Its name.
            limit: How many values at most. Default: all.

        Raises:
            ValueError: If there is no such column, or its values are nested.
        """
        counted = pc.value_counts(self._filterable("column", column))
        pairs = [(entry["values"], entry["counts"]) for entry in counted.to_pylist()]
        pairs.sort(key=lambda pair: -pair[1])
        return dict(pairs[:limit])

    def num_values(self, column: str) -> int:
        """How many different values a column has, None not among them.

        Raises:
            ValueError: As :meth:`values`.
        """
        return int(pc.count_distinct(self._filterable("column", column), mode="only_valid").as_py())

    def mask(self, where: Mapping[str, Value | Sequence[Value]]) -> NDArray[np.bool_]:
        """Which passages fit.

        Args:
            where: The wanted value of each column, or several of which any will do; None stands for "has none".

        Returns:
            (n,) bool.

        Raises:
            ValueError: If there is no such column, its values are nested, or a value is of another type than the
                column's.
        """
        mask = np.ones(len(self), dtype=bool)
        for name, wanted in where.items():
            column = self._filterable("where", name)
            values = _as_values(name, column.type, wanted)
            mask &= pc.is_in(column, value_set=values).combine_chunks().to_numpy(zero_copy_only=False)
        return mask

    def parse(self, column: str, text: str) -> Any:
        """A value of a column out of its text, as it is typed on a command line.

        Raises:
            ValueError: If there is no such column, its values are nested, or the text is none of its values' type.
        """
        kind = self._filterable("where", column).type
        try:
            # What Arrow itself makes of it; "" stands for "has none".
            return None if text == "" else pa.array([text]).cast(kind)[0].as_py()
        except pa.ArrowException:
            raise ValueError(f"where: expected a value of type {kind} for {column!r}, got {text!r}") from None

    def _filterable(self, argument: str, name: str) -> pa.ChunkedArray:
        if name not in self._schema.names:
            raise ValueError(f"{argument}: expected a column among {', '.join(self.columns)}, got {name!r}")
        if self._json[self._schema.names.index(name)] or pa.types.is_nested(self._schema.field(name).type):
            raise ValueError(
                f"{argument}: the values of {name!r} are nested or of several types, which cannot be filtered by"
            )
        return self.to_table().column(name)


def _value(value: Any, is_json: bool) -> Any:
    return json.loads(value) if is_json and value is not None else value


def _as_values(name: str, kind: pa.DataType, wanted: object) -> pa.Array:
    """The value or values that a column is to have, in its type."""
    is_one = isinstance(wanted, str | bytes) or not isinstance(wanted, Collection)
    several = [wanted] if is_one else list(wanted)  # type: ignore[call-overload]
    values = [value.item() if isinstance(value, np.generic) else value for value in several]
    for value in values:
        if value is not None and not isinstance(value, _python_types(kind)):
            raise ValueError(f"where: expected a value of type {kind} for {name!r}, got {value!r}")
        # To Python, True and False are numbers.
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
    """Whether the name of a file is just that, and leads nowhere else."""
    return name not in ("", ".", "..") and not any(separator in name for separator in "/\\:\0")
