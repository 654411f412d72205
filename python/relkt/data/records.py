"""Records out of JSON lines, Parquet and CSV files, so that every error names the file and the place."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from relkt.data.files import iter_json_lines, iter_lines, shorten
from relkt.data.types import DataError

Record = tuple[str, Mapping[str, Any]]
"""File and place, for errors, and what is there."""

JSON_LINES = (".jsonl", ".ndjson")
"""Endings of files of JSON lines."""
_EMBEDDING = 16
"""Numbers in a list from which on it is an embedding."""
TABLES = (".parquet", ".csv", ".tsv")
"""Endings of the other files."""


def read_records(path: Path) -> Iterator[Record]:
    """The records of a file: where each is, and its values by column.

    JSON lines (``.jsonl``, ``.ndjson``), Parquet (``.parquet``; columns of embeddings, lists of 16 fractions or more,
    are left out: they are slow to read as values), or CSV with a header (``.csv``, or ``.tsv`` with tabs and a record a
    line; all values are texts). Blank lines are no records.

    Raises:
        DataError: If there is no such file, or it is not what its name says; names the place.
    """
    readers: dict[str, Callable[[Path], Iterator[Record]]] = {
        **dict.fromkeys(JSON_LINES, _json_lines),
        ".parquet": _parquet,
        ".csv": _csv,
        ".tsv": _csv,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path}: expected a file that ends in {', '.join(readers)}, or a folder in the BEIR layout")
    if not path.is_file():
        raise DataError(f"{path}: file not found")
    return reader(path)


def _json_lines(path: Path) -> Iterator[Record]:
    for number, record in iter_json_lines(path):
        yield f"{path}, line {number}", record


def _parquet(path: Path) -> Iterator[Record]:
    # Not at the top: reading other files should not wait for it.
    import pyarrow as arrow
    from pyarrow import parquet

    row = 0
    try:
        with parquet.ParquetFile(path) as file:
            repeated = [field.name for field in file.schema_arrow]
            if len(set(repeated)) < len(repeated):
                raise DataError(f"{path}: expected columns of distinct names, got {shorten(repeated)}")
            # Embeddings, which such files often hold too, are slow to read and nothing to us.
            names = [field.name for field in file.schema_arrow if not _is_embedding(file, field)]
            for batch in file.iter_batches(batch_size=4096, columns=names):
                for record in batch.to_pylist():
                    yield f"{path}, row {row}", record
                    row += 1
    except arrow.ArrowInvalid as error:
        raise DataError(f"{path}: expected a Parquet file: {error}") from None


def _is_embedding(file: Any, field: Any) -> bool:
    """Whether a column holds long lists of fractions; short ones, such as coordinates, are values like others."""
    value = getattr(field.type, "value_type", None)
    if value is None or str(value) not in ("halffloat", "float", "double"):
        return False
    batch = next(file.iter_batches(batch_size=1, columns=[field.name]), None)
    first = batch.column(0)[0].as_py() if batch is not None and len(batch) else None
    return first is None or len(first) >= _EMBEDDING


def _csv(path: Path) -> Iterator[Record]:
    lines = (line for _, line in iter_lines(path))
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    limit = csv.field_size_limit(2**31 - 1)  # texts may be long
    try:
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        header: Sequence[str] = next(reader, [])
        if len(set(header)) < len(header):
            raise DataError(f"{path}, line 1: expected a header of distinct names, got {shorten(list(header))}")
        for values in reader:
            where = f"{path}, line {reader.line_num}"
            if not values:
                continue
            if delimiter == "\t" and any("\n" in value for value in values):
                # Most such files have no quoting; a quotation mark at the start of a cell would swallow lines.
                raise DataError(
                    f"{where}: expected each record on one line, got a quoted cell over several; write it as .csv or "
                    ".jsonl if it is meant so"
                )
            if len(values) != len(header):
                raise DataError(
                    f"{where}: expected {len(header)} values, as in the header, got {len(values)}: {shorten(values)}"
                )
            yield where, dict(zip(header, values, strict=True))
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: expected CSV, got an error: {error}") from error
    finally:
        csv.field_size_limit(limit)
