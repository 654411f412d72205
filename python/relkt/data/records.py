"""Readers of records from JSON lines, Parquet and CSV files; every error names the file and the line or row."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from relkt.data.parsing import iter_json_lines, iter_lines, shorten
from relkt.data.types import DataError

Record = tuple[str, Mapping[str, Any]]
"""The place of a record (file and line or row, for errors), and its values by column."""

JSON_LINES = (".jsonl", ".ndjson")
"""Suffixes of files of JSON lines."""
TABLES = (".parquet", ".csv", ".tsv")
"""Suffixes of the other files."""
_EMBEDDING = 16
"""Minimum length of a list of floats that counts as an embedding."""


def read_records(path: Path) -> Iterator[Record]:
    """Reads the records of a file.

    The suffix decides the format; blank lines are skipped:

    - ``.jsonl``, ``.ndjson``: JSON lines;
    - ``.parquet``: Parquet, without columns of embeddings (lists of at least 16 floats), which are slow to convert;
    - ``.csv``: CSV with a header; all values are texts;
    - ``.tsv``: the same with tabs instead of commas, and each record on one line.

    Raises:
        DataError: If the file is missing, or its content does not match its suffix; names the place.
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
    # Imported here: the other formats do not need it.
    import pyarrow as arrow
    from pyarrow import parquet

    row = 0
    try:
        with parquet.ParquetFile(path) as file:
            repeated = [field.name for field in file.schema_arrow]
            if len(set(repeated)) < len(repeated):
                raise DataError(f"{path}: expected columns of distinct names, got {shorten(repeated)}")
            # Such files often hold embeddings as well, which are slow to convert and not needed.
            names = [field.name for field in file.schema_arrow if not _is_embedding(file, field)]
            for batch in file.iter_batches(batch_size=4096, columns=names):
                for record in batch.to_pylist():
                    yield f"{path}, row {row}", record
                    row += 1
    except arrow.ArrowInvalid as error:
        raise DataError(f"{path}: expected a Parquet file: {error}") from None


def _is_embedding(file: Any, field: Any) -> bool:
    """True for a column of long lists of floats; short lists, e.g. coordinates, are ordinary values."""
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
            raise DataError(f"{path}, line 1: expected columns of distinct names, got {shorten(list(header))}")
        for values in reader:
            where = f"{path}, line {reader.line_num}"
            if not values:
                continue
            if delimiter == "\t" and any("\n" in value for value in values):
                # Most TSV files do not quote. In such a file, a cell that starts with a quotation mark would swallow
                # the following lines, so this is an error.
                raise DataError(
                    f"{where}: expected each record on one line, got a quoted cell over several lines; if that is "
                    "intended, use .csv or .jsonl"
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
