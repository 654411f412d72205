"""An index from, and to, what others keep embeddings in: faiss, NumPy files, Arrow tables and Parquet files.

Rows pass through in batches of :data:`BATCH_BYTES`, so an import with ``output`` needs memory for a few batches and the
ids, and so does an export to a file. Stored rows are those given, bit for bit: nothing is cast or normalised.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from relkt.arrays import Embeddings
from relkt.files import replacing
from relkt.index import Index

if TYPE_CHECKING:
    import faiss  # type: ignore[import-untyped]
    import pyarrow

#: Bytes of rows in a batch, at most (a batch has at least one row).
BATCH_BYTES = 16 << 20

#: How far from 1 the norm of a row may be for its inner product to pass as its cosine.
NORM_TOLERANCE = 1e-3

# A row of a list column has no width in the column's type; batches of it are cut as if it had this one.
_ASSUMED_DIM = 4096


def from_faiss(
    index: faiss.Index | str | os.PathLike[str],
    *,
    ids: Any = None,
    check_norms: bool = True,
    output: str | os.PathLike[str] | None = None,
    threads: int | None = None,
) -> Index:
    """An index of the rows of a faiss index for inner products.

    faiss ranks by inner product and relkt by cosine, which are the same for rows of norm 1; relkt's scores are then the
    inner products with queries of norm 1.

    Args:
        index: An ``IndexFlatIP``, by itself or in an ``IndexIDMap`` (or ``IndexIDMap2``), or the file of one, which is
            mapped rather than read where faiss can.
        ids: (n,) As for :class:`relkt.Index`. Default: those of the ``IndexIDMap``; without one, the rows.
        check_norms: Refuse rows whose norm is not 1, give or take 1e-3. Without, they are taken as they are, and ranked
            by cosine. Default: yes.
        output: An index file to be written, batch by batch, and opened. Default: none, the index is in memory.
        threads: As for :class:`relkt.Index`.

    Returns:
        The index, with the rows, (n, d) float32, in the same order.

    Raises:
        ImportError: If faiss is not installed.
        TypeError: If ``index`` is another kind of faiss index, or none.
        ValueError: If it is empty, has a row of another norm (the message names the first), or an id twice, if the file
            is none of faiss, or as :class:`relkt.Index`.
        OSError: If a file cannot be read or written; nothing is left of ``output``.
    """
    library = _library("faiss", "faiss-cpu")
    if isinstance(index, str | os.PathLike):
        index = _read_faiss(library, os.fspath(index))
    flat = index
    if isinstance(index, library.IndexIDMap):
        flat = library.downcast_index(index.index)
        ids = library.vector_to_array(index.id_map) if ids is None else ids
    if not isinstance(flat, library.IndexFlat) or flat.metric_type != library.METRIC_INNER_PRODUCT:
        kind = type(flat).__name__ if flat is index else f"{type(flat).__name__} in an {type(index).__name__}"
        raise TypeError(f"index: expected a faiss IndexFlatIP, by itself or in an IndexIDMap, got {kind}")
    rows = _some_rows("index", flat.ntotal)

    def batches() -> Iterator[Embeddings]:
        for start, stop in _ranges(rows, 4 * flat.d):
            batch = flat.reconstruct_n(start, stop - start)
            if check_norms:
                _check_norms(batch, start)
            yield batch

    return _index(batches(), rows, ids, output, threads)


def to_faiss(index: Index, *, with_ids: bool = False) -> faiss.IndexFlatIP | faiss.IndexIDMap:
    """A faiss index, in memory, whose inner products with queries of norm 1 are cosines.

    Args:
        index: Any; of any norms.
        with_ids: Whether faiss should answer with the ids, which must be integers, rather than with rows. Default: no.

    Returns:
        An ``IndexFlatIP`` of the rows divided by their norms (in double precision, then rounded to float32), in the
        same order; with ids, in an ``IndexIDMap``.

    Raises:
        ImportError: If faiss is not installed.
        TypeError: If ``with_ids`` and the ids are strings.
    """
    library = _library("faiss", "faiss-cpu")
    ids = index.ids if with_ids else None
    if ids is not None and ids.dtype != np.int64:
        raise TypeError("with_ids: expected an index with integer ids, which are all that faiss knows, got strings")
    exported = library.IndexFlatIP(index.dim)
    if ids is not None:
        exported = library.IndexIDMap(exported)
    for start, batch in _batches_of(index):
        exact = batch.astype(np.float64)
        unit = (exact / np.linalg.norm(exact, axis=1, keepdims=True)).astype(np.float32)
        if ids is None:
            exported.add(unit)
        else:
            exported.add_with_ids(unit, ids[start : start + len(unit)])
    return exported


def _read_faiss(library: Any, path: str) -> Any:
    with Path(path).open("rb"):
        pass  # An OSError that says what is wrong, which faiss has not.
    try:
        return library.read_index(path, getattr(library, "IO_FLAG_MMAP_IFC", library.IO_FLAG_MMAP))
    except RuntimeError as error:
        raise ValueError(f"index: expected a file of a faiss index, got {path!r}: {error}") from None


def _check_norms(batch: Embeddings, start: int) -> None:
    norms = np.linalg.norm(batch.astype(np.float64), axis=1)
    other = np.flatnonzero(~(np.abs(norms - 1) <= NORM_TOLERANCE))
    if len(other):
        at = int(other[0])
        raise ValueError(
            f"index: expected rows of norm 1, whose inner products are cosines, got norm {norms[at]:.6g} for row "
            f"{start + at}; with check_norms=False rows of any norm are taken, and ranked by cosine"
        )


def from_npy(
    path: str | os.PathLike[str],
    *,
    ids: Any = None,
    output: str | os.PathLike[str] | None = None,
    threads: int | None = None,
) -> Index:
    """An index of the rows in a ``.npy`` file, which is mapped and read batch by batch.

    Args:
        path: A file of an (n, d) float32 or float16 array, in either memory order.
        ids: (n,) As for :class:`relkt.Index`. Default: the rows.
        output: An index file to be written, batch by batch, and opened. Default: none, the index is in memory.
        threads: As for :class:`relkt.Index`.

    Returns:
        The index, with the rows in the same order.

    Raises:
        TypeError: If the array has another type or number of dimensions.
        ValueError: If the file is no ``.npy`` file, or as :class:`relkt.Index`.
        OSError: If a file cannot be read or written; nothing is left of ``output``.
    """
    path = os.fspath(path)
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"path: expected a .npy file, got {path!r}: {error}") from None
    if not isinstance(array, np.ndarray):
        array.close()
        raise TypeError(f"path: expected a .npy file of one array, got an archive of arrays, {path!r}")
    if array.ndim != 2:
        raise TypeError(f"path: expected an array of 2 dimensions (rows, columns), got shape {array.shape}")
    if array.dtype not in (np.float32, np.float16):
        raise TypeError(
            f"path: expected dtype float32 or float16, got {array.dtype}; to convert it, if it may lose digits: "
            "np.save(new_path, np.load(path).astype(np.float32))"
        )
    rows = _some_rows("path", len(array))
    if output is None:
        # The index copies the mapped rows, so there is no need for batches.
        return Index(array, ids=ids, threads=threads)
    ranges = _ranges(rows, array.dtype.itemsize * array.shape[1])
    return _index((array[start:stop] for start, stop in ranges), rows, ids, output, threads)


def to_npy(index: Index, path: str | os.PathLike[str]) -> None:
    """Writes the stored rows, bit for bit, to a ``.npy`` file of an (n, d) float32 or float16 array.

    The file appears, or is replaced, once it is complete. It holds no ids; ``index.ids`` are those of its rows.

    Raises:
        OSError: If the file cannot be written; an old one is left as it was.
    """
    descr = np.lib.format.dtype_to_descr(index.dtype)
    header = {"descr": descr, "fortran_order": False, "shape": (len(index), index.dim)}
    # Written rather than mapped: on a full disk a write is an error, and a store to a map the end of the process.
    with replacing(path) as file:
        np.lib.format.write_array_header_1_0(file, header)
        for _, batch in _batches_of(index):
            file.write(batch.data)


def from_arrow(
    data: Any,
    *,
    column: str = "embedding",
    id_column: str | None = None,
    output: str | os.PathLike[str] | None = None,
    threads: int | None = None,
) -> Index:
    """An index of a column of a table.

    Args:
        data: A ``pyarrow.Table``, a ``pyarrow.dataset.Dataset``, whose reader keeps a few batches, and of Parquet files
            whole row groups, in memory (:func:`from_parquet` does not), or a ``datasets.Dataset``.
        column: The embeddings: lists of float32 or float16, all of the same length (fixed-size lists, lists, large
            lists or one-dimensional tensors). Default: "embedding".
        id_column: The ids: integers or strings, each once. Default: none, the ids are the rows.
        output: An index file to be written, batch by batch, and opened. Default: none, the index is in memory.
        threads: As for :class:`relkt.Index`.

    Returns:
        The index, with the rows in the same order.

    Raises:
        ImportError: If pyarrow is not installed.
        TypeError: If ``data`` is something else, or a column has another type: float64 is not cast.
        ValueError: If there is no such column, no row, a null (the message names the row) or a list of another length,
            or as :class:`relkt.Index`.
        OSError: If a file cannot be read or written; nothing is left of ``output``.
    """
    return _from_source("data", _source(data), column, id_column, output, threads)


def from_parquet(
    path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    column: str = "embedding",
    id_column: str | None = None,
    output: str | os.PathLike[str] | None = None,
    threads: int | None = None,
) -> Index:
    """An index of a column of Parquet files, of which a batch is in memory at a time, however large their row groups.

    Args:
        path: A file, or several, whose rows follow one another.
        column: As for :func:`from_arrow`. Default: "embedding".
        id_column: As for :func:`from_arrow`. Default: none, the ids are the rows.
        output: An index file to be written, batch by batch, and opened. Default: none, the index is in memory.
        threads: As for :class:`relkt.Index`.

    Returns:
        The index, with the rows in the same order.

    Raises:
        ImportError: If pyarrow is not installed.
        TypeError: If a column has another type (float64 is not cast), or not the same type in all files.
        ValueError: As :func:`from_arrow`, or if a file is no Parquet file.
        OSError: If a file cannot be read or written; nothing is left of ``output``.
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
                    first = _field(schema, name, wanted).type
                    other = _field(file.schema_arrow, name, wanted).type
                    if first != other:
                        raise TypeError(
                            f"{name}: expected {wanted!r} to be of one type, got {first} in {os.fspath(paths[0])!r} "
                            f"and {other} in {os.fspath(one)!r}"
                        )
            rows += file.metadata.num_rows

    def batches(columns: list[str], rows: int) -> Iterator[Any]:
        for one in paths:
            with _parquet_file(one) as file:
                yield from file.iter_batches(batch_size=rows, columns=columns)

    return _from_source("path", _Source(schema, rows, batches), column, id_column, output, threads)


def _parquet_file(path: str | os.PathLike[str]) -> Any:
    parquet = _library("pyarrow.parquet", "pyarrow")
    with Path(path).open("rb"):
        pass  # An OSError of Python's own.
    try:
        return parquet.ParquetFile(path, memory_map=True)
    except _library("pyarrow", "pyarrow").ArrowInvalid as error:
        raise ValueError(f"path: expected a Parquet file, got {os.fspath(path)!r}: {error}") from None


def to_arrow(index: Index, *, column: str = "embedding", id_column: str | None = "id") -> pyarrow.Table:
    """The stored rows, bit for bit, as an Arrow table in memory.

    Args:
        index: Any.
        column: Name of the column of embeddings: fixed-size lists of float32 or float16. Default: "embedding".
        id_column: Name of the column of ids, int64 or string, which is there if the index has ids; None leaves it out.
            Default: "id".

    Raises:
        ImportError: If pyarrow is not installed.
        ValueError: If both columns have the same name.
    """
    arrow = _library("pyarrow", "pyarrow")
    schema = _schema(arrow, index, column, id_column)
    return arrow.Table.from_batches(_record_batches(arrow, index, schema), schema)


def to_parquet(
    index: Index, path: str | os.PathLike[str], *, column: str = "embedding", id_column: str | None = "id"
) -> None:
    """Writes the stored rows, bit for bit, to a Parquet file, one row group for each batch.

    The file appears, or is replaced, once it is complete.

    Args:
        index: Any.
        path: The file.
        column: As for :func:`to_arrow`. Default: "embedding".
        id_column: As for :func:`to_arrow`. Default: "id".

    Raises:
        ImportError: If pyarrow is not installed.
        ValueError: If both columns have the same name.
        OSError: If the file cannot be written; an old one is left as it was.
    """
    arrow, parquet = _library("pyarrow", "pyarrow"), _library("pyarrow.parquet", "pyarrow")
    schema = _schema(arrow, index, column, id_column)
    # Embeddings hardly ever repeat, so a dictionary of them would only cost.
    with replacing(path) as file, parquet.ParquetWriter(file, schema, use_dictionary=False) as writer:
        for batch in _record_batches(arrow, index, schema):
            writer.write_batch(batch, row_group_size=len(batch))


class _Source(NamedTuple):
    """Columns of a table that is read in batches.

    Attributes:
        schema: A ``pyarrow.Schema``.
        rows: Number of rows.
        batches: From columns and a number of rows to batches of at most so many rows, all in all these columns.
    """

    schema: Any
    rows: int
    batches: Callable[[list[str], int], Iterator[Any]]


def _source(data: Any) -> _Source:
    arrow, files = _library("pyarrow", "pyarrow"), _library("pyarrow.dataset", "pyarrow")
    if isinstance(data, arrow.Table):
        return _Source(
            data.schema, data.num_rows, lambda columns, rows: iter(data.select(columns).to_batches(max_chunksize=rows))
        )
    if isinstance(data, files.Dataset):
        return _Source(
            data.schema,
            data.count_rows(),
            # Without reading further ahead than a batch or two.
            lambda columns, rows: data.to_batches(
                columns=columns, batch_size=rows, batch_readahead=1, fragment_readahead=1
            ),
        )
    datasets = sys.modules.get("datasets")  # Whoever has a data set of it has imported it.
    if datasets is not None and isinstance(data, datasets.Dataset):
        # By way of its own batches, which know of rows that were shuffled, selected, or sorted.
        def batches(columns: list[str], rows: int) -> Iterator[Any]:
            for table in data.select_columns(columns).with_format("arrow").iter(rows):
                yield from table.to_batches()

        return _Source(data.features.arrow_schema, data.num_rows, batches)
    raise TypeError(
        "data: expected a pyarrow.Table, a pyarrow.dataset.Dataset or a datasets.Dataset, "
        f"got {type(data).__module__}.{type(data).__qualname__}"
    )


def _from_source(
    name: str,
    source: _Source,
    column: str,
    id_column: str | None,
    output: str | os.PathLike[str] | None,
    threads: int | None,
) -> Index:
    width = _check_embeddings(source.schema, column)
    rows = _some_rows(name, source.rows)
    ids = None if id_column is None else _ids(source, id_column)
    value = _storage(source.schema.field(column).type).value_type
    at_once = next(_ranges(rows, value.bit_width // 8 * width))[1]
    return _index(_embeddings(source.batches([column], at_once), column), rows, ids, output, threads)


def _check_embeddings(schema: Any, column: str) -> int:
    """The width of the rows, or a guess where the type does not say."""
    types = import_module("pyarrow.types")
    given = _field(schema, "column", column).type
    kind = _storage(given)
    fixed = types.is_fixed_size_list(kind)
    is_list = fixed or types.is_list(kind) or types.is_large_list(kind)
    flat = len(getattr(given, "shape", (0,))) == 1  # Tensors have a shape.
    if is_list and flat and (types.is_float32(kind.value_type) or types.is_float16(kind.value_type)):
        return kind.list_size if fixed else _ASSUMED_DIM
    hint = ""
    if is_list and types.is_floating(kind.value_type):
        hint = (
            "; to convert it, if it may lose digits: table.set_column(table.schema.get_field_index(name), name, "
            f"table[name].cast(pyarrow.list_(pyarrow.float32()))) with name = {column!r}"
        )
    raise TypeError(f"column: expected {column!r} to be lists of float32 or float16 (halffloat), got {given}{hint}")


def _field(schema: Any, name: str, column: str) -> Any:
    found = len(schema.get_all_field_indices(column))
    if found != 1:
        raise ValueError(f"{name}: expected one column {column!r}, got {found} among {', '.join(schema.names)}")
    return schema.field(column)


def _storage(kind: Any) -> Any:
    """What values of an extension type, such as tensors, are kept as."""
    return getattr(kind, "storage_type", kind)


def _embeddings(batches: Iterable[Any], column: str) -> Iterator[Embeddings]:
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
                f"column: expected lists of {dim} values in {column!r}, like the first, "
                f"got {lengths[at]} in row {start + at}"
            )
        values = lists.flatten()
        if values.null_count:
            at = start + _first_null(values) // dim
            raise ValueError(f"column: expected no null in {column!r}, got one among the values of row {at}")
        yield values.to_numpy(zero_copy_only=True).reshape(len(lists), dim)
        start += len(lists)


def _ids(source: _Source, column: str) -> Any:
    arrow, types = import_module("pyarrow"), import_module("pyarrow.types")
    kind = _field(source.schema, "id_column", column).type
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
        raise ValueError(f"{name}: expected no null in {column!r}, got one in row {start + _first_null(values)}")
    return values


def _first_null(values: Any) -> int:
    return int(np.argmax(values.is_null().to_numpy(zero_copy_only=False)))


def _schema(arrow: Any, index: Index, column: str, id_column: str | None) -> Any:
    value = arrow.float16() if index.dtype == np.float16 else arrow.float32()
    fields = [arrow.field(column, arrow.list_(value, index.dim))]
    if id_column is not None and index.has_ids:
        if id_column == column:
            raise ValueError(f"id_column: expected another name than that of the embeddings, got {id_column!r}")
        fields.insert(0, arrow.field(id_column, arrow.int64() if index.ids.dtype == np.int64 else arrow.string()))
    return arrow.schema(fields)


def _record_batches(arrow: Any, index: Index, schema: Any) -> Iterator[Any]:
    ids = index.ids if len(schema) == 2 else None
    for start, batch in _batches_of(index):
        arrays = [arrow.FixedSizeListArray.from_arrays(arrow.array(batch.reshape(-1)), index.dim)]
        if ids is not None:
            arrays.insert(0, arrow.array(ids[start : start + len(batch)], schema.field(0).type))
        yield arrow.record_batch(arrays, schema)


def _library(module: str, package: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{module} is needed for this and cannot be imported ({error}): pip install {package}"
        ) from error


def _some_rows(name: str, rows: int) -> int:
    if rows < 1:
        raise ValueError(f"{name}: expected at least one row, got none")
    return rows


def _ranges(rows: int, row_bytes: int) -> Iterator[tuple[int, int]]:
    """Where batches start and stop."""
    step = max(1, BATCH_BYTES // max(1, row_bytes))
    return ((start, min(start + step, rows)) for start in range(0, rows, step))


def _batches_of(index: Index) -> Iterator[tuple[int, Embeddings]]:
    """The first row of each batch, and its rows."""
    for start, stop in _ranges(len(index), index.dtype.itemsize * index.dim):
        yield start, index.embeddings(np.arange(start, stop))


def _index(
    batches: Iterator[Embeddings], rows: int, ids: Any, output: str | os.PathLike[str] | None, threads: int | None
) -> Index:
    if output is not None:
        return Index.build(output, batches, rows=rows, ids=ids, threads=threads)
    array: NDArray[Any] | None = None
    start = 0
    for batch in batches:
        if array is None:
            array = np.empty((rows, batch.shape[1]), batch.dtype)
        array[start : start + len(batch)] = batch
        start += len(batch)
    if array is None or start != rows:
        raise ValueError(f"expected {rows} rows, as announced, got {start}")
    return Index(array, ids=ids, threads=threads)
