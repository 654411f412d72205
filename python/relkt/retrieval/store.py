"""Writing passages to the Arrow file next to an index."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from relkt.data.parsing import shorten
from relkt.data.types import DataError
from relkt.retrieval.passages import (
    DOCUMENT,
    ID,
    JSON_COLUMN,
    LANGUAGE,
    NOTES,
    OWN_COLUMNS,
    TEXT,
    TITLE,
    VERSION,
    PassageStore,
)
from relkt.retrieval.sources import Columns, Source
from relkt.storage import atomic_file

BATCH_ROWS = 1024
"""Number of rows of a record batch; a batch is the unit that is read from disk."""

_KINDS: Mapping[type, pa.DataType] = {
    str: pa.string(),
    bool: pa.bool_(),
    int: pa.int64(),
    float: pa.float64(),
    bytes: pa.binary(),
    datetime.date: pa.date32(),
    datetime.time: pa.time64("us"),
    datetime.datetime: pa.timestamp("us"),
}
_JSON_TYPES = (str, bool, int, float, list, dict)
_INT64 = range(-(2**63), 2**63)
_EXACT = 2**53


class _ExactInteger:
    """Stands for an integer that double precision represents exactly."""


def read_store(source: Source) -> PassageStore:
    """Read the passages of a source into memory.

    Raises:
        DataError: As :func:`write_store`.
    """
    schema = _scan(source, {})
    return PassageStore(list(_batches(source, schema)), schema)


def write_store(source: Source, path: Path, notes: Mapping[str, Any]) -> int:
    """Write the passages of a source, in their order, to an Arrow file, atomically.

    A column has the type of its values; if they are nested or of several types, it is stored as JSON. The source is
    read twice: first to check it and to find the types, then to write the file.

    Args:
        source: The passages.
        path: The file.
        notes: Notes to store with the passages, as JSON values.

    Returns:
        Number of passages.

    Raises:
        DataError: If the source has no passage or changes while it is read; a text is missing or blank; an id is
            missing, repeated, or neither a text nor an integer; a title, document or language is not a text; or a value
            cannot be stored. The message names the place and the value.
        OSError: If the file cannot be written.
    """
    before = source.fingerprint()
    schema = _scan(source, notes)
    rows = 0
    with atomic_file(path) as file:
        with pa.ipc.new_file(file, schema) as writer:
            for batch in _batches(source, schema):
                writer.write_batch(batch)
                rows += len(batch)
        if source.fingerprint() != before:
            raise DataError(f"{source.name}: changed while it was read; try again when it is complete")
    return rows


def _scan(source: Source, notes: Mapping[str, Any]) -> pa.Schema:
    """Check every record and find the types of the columns."""
    kinds: dict[str, set[type]] = {}
    first_row_of: dict[str, str] = {}
    for where, own, others in _records(source):
        if (other := first_row_of.setdefault(own[ID], where)) is not where:
            raise DataError(f"{where}: expected each id once, got {own[ID]!r}, as in {other}")
        for name, value in others.items():
            found = kinds.setdefault(name, set())
            if value is not None:
                kind = _kind(value, name, where)
                # A column of floats may contain integers that double precision represents.
                found.add(_ExactInteger if kind is int and abs(value) <= _EXACT else kind)
    if not first_row_of:
        raise DataError(f"{source.name}: expected at least one passage, got none")
    fields = [pa.field(name, pa.string(), nullable=name not in (ID, TEXT)) for name in OWN_COLUMNS]
    for name, found in kinds.items():
        if _ExactInteger in found:
            found = (found - {_ExactInteger}) | ({float} if found == {_ExactInteger, float} else {int})
        if len(found) <= 1 and not found & {list, dict}:
            fields.append(pa.field(name, _KINDS[next(iter(found), str)]))
            continue
        if unfit := [kind.__name__ for kind in found if kind not in _JSON_TYPES]:
            raise DataError(
                f"{source.name}: column {name!r} has values of several types, including {unfit[0]}, which JSON cannot "
                "store"
            )
        fields.append(pa.field(name, pa.string(), metadata=JSON_COLUMN))
    text = json.dumps({"version": VERSION, **notes}, ensure_ascii=False)
    return pa.schema(fields, metadata={NOTES: text.encode()})


def _kind(value: object, name: str, where: str) -> type:
    kind = type(value)
    if kind is int and value not in _INT64:
        return dict  # stored as JSON, which has integers of any size
    if isinstance(value, datetime.datetime):
        if value.tzinfo is not None or getattr(value, "nanosecond", False):
            raise DataError(
                f"{where}: expected a time without zone and nanoseconds in {name!r}, got {value}; store it as a text, "
                "or drop the column"
            )
        return datetime.datetime  # also for its subclass in pandas
    if kind in _KINDS or kind in (list, dict):
        if kind in (list, dict, str):
            try:
                json.dumps(value, ensure_ascii=False).encode()
            except (TypeError, ValueError) as error:
                raise DataError(f"{where}: {name!r} cannot be stored: {error}; got {shorten(value)}") from error
        return kind
    raise DataError(
        f"{where}: expected a text, number, date, list or object in {name!r}, got {shorten(value)}; store it as a "
        "text, or drop the column"
    )


def _batches(source: Source, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    further = schema.names[len(OWN_COLUMNS) :]
    is_json = {name: dict(schema.field(name).metadata or {}) == JSON_COLUMN for name in further}
    columns: dict[str, list[Any]] = {name: [] for name in schema.names}

    def batch() -> pa.RecordBatch:
        arrays = [pa.array(columns[name], type=schema.field(name).type) for name in schema.names]
        for values in columns.values():
            values.clear()
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    for _, own, others in _records(source):
        for name in OWN_COLUMNS:
            columns[name].append(own[name])
        for name in further:
            value = others.get(name)
            columns[name].append(
                json.dumps(value, ensure_ascii=False) if is_json[name] and value is not None else value
            )
        if len(columns[ID]) == BATCH_ROWS:
            yield batch()
    if columns[ID]:
        yield batch()


def _records(source: Source) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """For each record: its place, the values of :data:`OWN_COLUMNS`, and its other columns."""
    names = source.columns
    id_column = names.id
    for row, (where, record) in enumerate(source.records()):
        if id_column is None and row == 0:
            id_column = next((name for name in ("_id", "id") if name in record), None)
        own = {
            ID: str(row) if id_column is None else _id(record, id_column, where),
            TEXT: _text(record, names.text, where),
            TITLE: _optional(record, names.title, TITLE, where),
            DOCUMENT: _optional(record, names.document, DOCUMENT, where),
            LANGUAGE: _optional(record, names.language, LANGUAGE, where),
        }
        used = _used(names, id_column)
        others = {str(name): value for name, value in record.items() if name not in used and name not in names.left_out}
        for name in others:
            if name in OWN_COLUMNS:
                other = id_column if name == ID else getattr(names, name)
                holder = repr(other) if other else "the row number"
                raise DataError(
                    f"{where}: column {name!r} would be lost, since {holder} takes its place; name it, or rename it"
                )
        metadata = record.get("metadata")
        if id_column == "_id" and isinstance(metadata, Mapping):
            # The BEIR layout allows these columns in the metadata.
            for name in (DOCUMENT, LANGUAGE):
                if own[name] is None:
                    own[name] = _optional(metadata, None, name, where)
        yield where, own, others


def _used(names: Columns, id_column: str | None) -> set[str | None]:
    return {
        id_column,
        names.text,
        names.title or TITLE,
        names.document or DOCUMENT,
        names.language or LANGUAGE,
    }


def _id(record: Mapping[str, Any], name: str, where: str) -> str:
    if record.get(name) is None:
        raise DataError(f"{where}: expected an id in {name!r}, got {_held(record, name)}")
    value = record[name]
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise DataError(f"{where}: expected a text or an integer in {name!r}, got {shorten(value)}")
    return _unicode(str(value), name, where)


def _text(record: Mapping[str, Any], name: str, where: str) -> str:
    value = record.get(name)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{where}: expected a text in {name!r}, got {_held(record, name)}")
    return _unicode(value, name, where)


def _optional(record: Mapping[str, Any], name: str | None, default: str, where: str) -> str | None:
    if name is not None and name not in record:
        raise DataError(f"{where}: expected {name!r}, got {_held(record, name)}")
    value = record.get(name or default)
    if value is None or value == "":
        return None
    if default == DOCUMENT and isinstance(value, int) and not isinstance(value, bool):
        return str(value)  # like ids
    if not isinstance(value, str):
        raise DataError(f"{where}: expected a text in {name or default!r}, got {shorten(value)}")
    return _unicode(value, name or default, where)


def _held(record: Mapping[str, Any], name: str) -> str:
    return shorten(record[name]) if name in record else f"only {', '.join(map(repr, record)) or 'nothing'}"


def _unicode(text: str, name: str, where: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{where}: expected Unicode text in {name!r}, got the unpaired surrogate {text[error.start]!r} at "
            f"character {error.start}"
        ) from error
    return text
