"""The passages behind the rows of an index: an Arrow file, memory-mapped."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
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
        batch, offset = self._batches[position], number - int(self._starts[position])
        values = [_value(batch.column(column)[offset].as_py(), is_json) for column, is_json in enumerate(self._json)]
        by_name = dict(zip(self._schema.names, values, strict=True))
        own = {name: by_name.pop(name) for name in OWN_COLUMNS}
        return IndexedPassage(**own, fields=by_name)

    def __iter__(self) -> Iterator[IndexedPassage]:
        return (self[row] for row in range(len(self)))

    def texts(self, start: int = 0, stop: int | None = None) -> list[str]:
        """The texts of rows ``start`` to ``stop`` (exclusive; default: all)."""
        return self.to_table().column(TEXT)[start:stop].to_pylist()  # type: ignore[no-any-return]

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
            several = (
                list(wanted)
                if isinstance(wanted, Sequence | set | frozenset) and not isinstance(wanted, str)
                else [wanted]
            )
            column = self._filterable("where", name)
            for value in several:
                _check_comparable(name, column.type, value)
            values = pa.array(several, type=column.type)
            found = pc.is_in(column, value_set=values)
            mask &= found.combine_chunks().to_numpy(zero_copy_only=False)
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
        except pa.ArrowInvalid:
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


def _check_comparable(name: str, kind: pa.DataType, value: object) -> None:
    fits = value is None or (
        isinstance(value, bool)
        if pa.types.is_boolean(kind)
        else isinstance(value, str)
        if pa.types.is_string(kind) or pa.types.is_large_string(kind)
        else isinstance(value, int) and not isinstance(value, bool)
        if pa.types.is_integer(kind)
        else isinstance(value, int | float) and not isinstance(value, bool)
        if pa.types.is_floating(kind)
        else True
    )
    if not fits:
        raise ValueError(f"where: expected a value of type {kind} for {name!r}, got {value!r}")
