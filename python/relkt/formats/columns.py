"""Reading columns of Arrow tables in batches."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from relkt.arrays import Embeddings
from relkt.formats.batches import import_library

# Assumed width of variable-size lists, whose type has no width. The size of their batches depends on it.
_ASSUMED_DIM = 4096


class Source(NamedTuple):
    """A table that is read in batches.

    Attributes:
        schema: A ``pyarrow.Schema``.
        rows: Number of rows.
        batches: Takes names of columns and a maximum number of rows, and returns batches of these columns.
    """

    schema: Any
    rows: int
    batches: Callable[[list[str], int], Iterator[Any]]


def source_of(data: Any) -> Source:
    """Makes a source of a pyarrow or datasets table."""
    arrow, files = import_library("pyarrow", "pyarrow"), import_library("pyarrow.dataset", "pyarrow")
    if isinstance(data, arrow.Table):
        return Source(
            data.schema, data.num_rows, lambda columns, rows: iter(data.select(columns).to_batches(max_chunksize=rows))
        )
    if isinstance(data, files.Dataset):
        return Source(
            data.schema,
            data.count_rows(),
            # Reads at most two batches ahead.
            lambda columns, rows: data.to_batches(
                columns=columns, batch_size=rows, batch_readahead=1, fragment_readahead=1
            ),
        )
    datasets = sys.modules.get("datasets")  # already imported if ``data`` is one of its objects
    if datasets is not None and isinstance(data, datasets.Dataset):
        # The data set's own batches respect shuffled, selected and sorted rows.
        def batches(columns: list[str], rows: int) -> Iterator[Any]:
            for table in data.select_columns(columns).with_format("arrow").iter(rows):
                yield from table.to_batches()

        return Source(data.features.arrow_schema, data.num_rows, batches)
    raise TypeError(
        "data: expected a pyarrow.Table, a pyarrow.dataset.Dataset or a datasets.Dataset, "
        f"got {type(data).__module__}.{type(data).__qualname__}"
    )


def check_embeddings(schema: Any, column: str) -> int:
    """Checks the type of the embeddings; returns their width, or an assumed width for variable-size lists."""
    types = import_module("pyarrow.types")
    given = field_of(schema, "column", column).type
    kind = storage_of(given)
    fixed = types.is_fixed_size_list(kind)
    is_list = fixed or types.is_list(kind) or types.is_large_list(kind)
    flat = len(getattr(given, "shape", (0,))) == 1  # tensors have a shape
    if is_list and flat and (types.is_float32(kind.value_type) or types.is_float16(kind.value_type)):
        return kind.list_size if fixed else _ASSUMED_DIM
    hint = ""
    if is_list and types.is_floating(kind.value_type):
        hint = (
            "; to convert it, with a loss of digits: table.set_column(table.schema.get_field_index(name), name, "
            f"table[name].cast(pyarrow.list_(pyarrow.float32()))) with name = {column!r}"
        )
    raise TypeError(f"column: expected {column!r} to be lists of float32 or float16 (halffloat), got {given}{hint}")


def field_of(schema: Any, name: str, column: str) -> Any:
    """Returns the field of a column, which must exist exactly once; an error names the argument ``name``."""
    found = len(schema.get_all_field_indices(column))
    if found != 1:
        raise ValueError(f"{name}: expected one column {column!r}, got {found} among {', '.join(schema.names)}")
    return schema.field(column)


def storage_of(kind: Any) -> Any:
    """Returns the storage type of an extension type, such as a tensor type."""
    return getattr(kind, "storage_type", kind)


def embeddings_of(batches: Iterable[Any], column: str) -> Iterator[Embeddings]:
    """Yields the rows of each batch; all batches must have the same width."""
    compute = import_module("pyarrow.compute")
    start, dim = 0, None
    for batch in batches:
        lists = _no_nulls("column", batch, column, start)
        if not len(lists):
            continue
        lengths = compute.list_value_length(lists).to_numpy(zero_copy_only=False)
        dim = int(lengths[0]) if dim is None else dim
        other = np.flatnonzero(lengths != dim)
        if len(other):
            at = int(other[0])
            raise ValueError(
                f"column: expected lists of {dim} values in {column!r}, as in the first row, "
                f"got {lengths[at]} in row {start + at}"
            )
        values = lists.flatten()
        if values.null_count:
            at = start + _first_null(values) // dim
            raise ValueError(f"column: expected no null in {column!r}, got a null among the values of row {at}")
        yield values.to_numpy(zero_copy_only=True).reshape(len(lists), dim)
        start += len(lists)


def ids_of(source: Source, column: str) -> Any:
    """Reads all ids: a list of strings or an array of integers."""
    arrow, types = import_module("pyarrow"), import_module("pyarrow.types")
    kind = field_of(source.schema, "id_column", column).type
    is_text = str(kind) in ("string", "large_string", "string_view")
    if not is_text and not types.is_integer(kind):
        raise TypeError(f"id_column: expected {column!r} to be integers or strings, got {kind}")
    start = 0
    found: list[Any] = []
    for batch in source.batches([column], 1 << 16):
        values = _no_nulls("id_column", batch, column, start)
        found.append(values if is_text else values.to_numpy(zero_copy_only=False))
        start += len(values)
    if is_text:
        return arrow.chunked_array(found, kind).to_pylist()
    return np.concatenate(found)


def _no_nulls(name: str, batch: Any, column: str, start: int) -> Any:
    values = batch.column(column)
    values = getattr(values, "storage", values)
    if values.null_count:
        raise ValueError(f"{name}: expected no null in {column!r}, got a null in row {start + _first_null(values)}")
    return values


def _first_null(values: Any) -> int:
    return int(np.argmax(values.is_null().to_numpy(zero_copy_only=False)))
