"""Arrow tables and Parquet files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from relkt.formats.batches import batches_of, import_library, index_of, ranges, some_rows
from relkt.formats.columns import Source, check_embeddings, embeddings_of, field_of, ids_of, source_of, storage_of
from relkt.index import Index
from relkt.storage import atomic_file

if TYPE_CHECKING:
    import pyarrow


def from_arrow(
    data: Any,
    *,
    column: str = "embedding",
    id_column: str | None = None,
    output: str | os.PathLike[str] | None = None,
    threads: int | None = None,
) -> Index:
    """Import a column of a table.

    Args:
        data: A ``pyarrow.Table``, a ``pyarrow.dataset.Dataset`` or a ``datasets.Dataset``. The reader of a
            ``pyarrow.dataset.Dataset`` holds a few batches in memory, and whole row groups of Parquet files;
            :func:`from_parquet` needs less.
        column: The embeddings: lists of float32 or float16 of equal length (fixed-size lists, lists, large lists or
            one-dimensional tensors). Default: "embedding".
        id_column: The ids: unique integers or strings. Default: None, the ids are the row numbers.
        output: An index file to write batch by batch and open. Default: None, the index stays in memory.
        threads: As for :class:`relkt.Index`.

    Returns:
        The index; its rows have the order of the source.

    Raises:
        ImportError: If pyarrow is not installed.
        TypeError: If ``data`` or a column has another type; float64 is not cast.
        ValueError: If a column does not exist, the table is empty, a value is null (the message names the row), lists
            differ in length, or as :class:`relkt.Index`.
        OSError: If a file cannot be read or written; a new ``output`` is removed, an old one is kept.
    """
    return _from_source("data", source_of(data), column, id_column, output, threads)


def from_parquet(
    path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    column: str = "embedding",
    id_column: str | None = None,
    output: str | os.PathLike[str] | None = None,
    threads: int | None = None,
) -> Index:
    """Import a column of Parquet files, one batch at a time, for row groups of any size.

    Args:
        path: A file, or several, which are concatenated.
        column: As for :func:`from_arrow`. Default: "embedding".
        id_column: As for :func:`from_arrow`. Default: None, the ids are the row numbers.
        output: An index file to write batch by batch and open. Default: None, the index stays in memory.
        threads: As for :class:`relkt.Index`.

    Returns:
        The index; its rows have the order of the source.

    Raises:
        ImportError: If pyarrow is not installed.
        TypeError: If a column has another type (float64 is not cast), or its type differs between files.
        ValueError: As :func:`from_arrow`, or if a file is not a Parquet file.
        OSError: If a file cannot be read or written; a new ``output`` is removed, an old one is kept.
    """
    paths = [path] if isinstance(path, str | os.PathLike) else list(path)
    if not paths:
        raise ValueError("path: expected at least one file, got none")
    rows, schema = 0, None
    for one in paths:
        with _parquet_file(one) as file:
            schema = file.schema_arrow if schema is None else schema
            for name, wanted in (("column", column), ("id_column", id_column)):
                if wanted is not None:
                    first = field_of(schema, name, wanted).type
                    other = field_of(file.schema_arrow, name, wanted).type
                    if first != other:
                        raise TypeError(
                            f"{name}: expected one type of {wanted!r} in all files, got {first} in "
                            f"{os.fspath(paths[0])!r} and {other} in {os.fspath(one)!r}"
                        )
            rows += file.metadata.num_rows

    def batches(columns: list[str], rows: int) -> Iterator[Any]:
        for one in paths:
            with _parquet_file(one) as file:
                yield from file.iter_batches(batch_size=rows, columns=columns)

    return _from_source("path", Source(schema, rows, batches), column, id_column, output, threads)


def _parquet_file(path: str | os.PathLike[str]) -> Any:
    parquet = import_library("pyarrow.parquet", "pyarrow")
    with Path(path).open("rb"):
        pass  # raises Python's own OSError
    try:
        return parquet.ParquetFile(path, memory_map=True)
    except import_library("pyarrow", "pyarrow").ArrowInvalid as error:
        raise ValueError(f"path: expected a Parquet file, got {os.fspath(path)!r}: {error}") from None


def to_arrow(index: Index, *, column: str = "embedding", id_column: str | None = "id") -> pyarrow.Table:
    """Export the stored rows, bit for bit, as an Arrow table in memory.

    Args:
        index: The index.
        column: Name of the column of embeddings: fixed-size lists of float32 or float16. Default: "embedding".
        id_column: Name of the column of ids (int64 or string), if the index has ids; None for no column. Default: "id".

    Raises:
        ImportError: If pyarrow is not installed.
        ValueError: If both columns have the same name.
    """
    arrow = import_library("pyarrow", "pyarrow")
    schema = _schema(arrow, index, column, id_column)
    return arrow.Table.from_batches(_record_batches(arrow, index, schema), schema)


def to_parquet(
    index: Index, path: str | os.PathLike[str], *, column: str = "embedding", id_column: str | None = "id"
) -> None:
    """Export the stored rows, bit for bit, to a Parquet file with a row group for each batch. The write is atomic.

    Args:
        index: The index.
        path: The file.
        column: As for :func:`to_arrow`. Default: "embedding".
        id_column: As for :func:`to_arrow`. Default: "id".

    Raises:
        ImportError: If pyarrow is not installed.
        ValueError: If both columns have the same name.
        OSError: If the file cannot be written; an old file is kept.
    """
    arrow, parquet = import_library("pyarrow", "pyarrow"), import_library("pyarrow.parquet", "pyarrow")
    schema = _schema(arrow, index, column, id_column)
    # Embeddings rarely repeat, so dictionary encoding would not save space.
    with atomic_file(path) as file, parquet.ParquetWriter(file, schema, use_dictionary=False) as writer:
        for batch in _record_batches(arrow, index, schema):
            writer.write_batch(batch, row_group_size=len(batch))


def _from_source(
    name: str,
    source: Source,
    column: str,
    id_column: str | None,
    output: str | os.PathLike[str] | None,
    threads: int | None,
) -> Index:
    width = check_embeddings(source.schema, column)
    rows = some_rows(name, source.rows)
    ids = None if id_column is None else ids_of(source, id_column)
    value = storage_of(source.schema.field(column).type).value_type
    at_once = next(ranges(rows, value.bit_width // 8 * width))[1]
    return index_of(embeddings_of(source.batches([column], at_once), column), rows, ids, output, threads)


def _schema(arrow: Any, index: Index, column: str, id_column: str | None) -> Any:
    value = arrow.float16() if index.dtype == np.float16 else arrow.float32()
    fields = [arrow.field(column, arrow.list_(value, index.dim))]
    if id_column is not None and index.has_ids:
        if id_column == column:
            raise ValueError(f"id_column: expected another name than the column of embeddings, got {id_column!r}")
        fields.insert(0, arrow.field(id_column, arrow.int64() if index.ids.dtype == np.int64 else arrow.string()))
    return arrow.schema(fields)


def _record_batches(arrow: Any, index: Index, schema: Any) -> Iterator[Any]:
    ids = index.ids if len(schema) == 2 else None
    for start, batch in batches_of(index):
        arrays = [arrow.FixedSizeListArray.from_arrays(arrow.array(batch.reshape(-1)), index.dim)]
        if ids is not None:
            arrays.insert(0, arrow.array(ids[start : start + len(batch)], schema.field(0).type))
        yield arrow.record_batch(arrays, schema)
