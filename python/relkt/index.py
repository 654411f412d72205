"""Exact top-k search by cosine over passage embeddings, in memory or in an index file."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from relkt._relkt import IndexWriter, Passages
from relkt.arrays import Embeddings, as_count, as_rows, as_threads, from_core, to_core
from relkt.ids import Ids, as_row_numbers


class Hits(NamedTuple):
    """Results of a search, best first: higher score first, then lower row.

    Attributes:
        scores: (q, k) float32, cosines in [-1, 1], each rounded once from double precision.
        indices: (q, k) int64, rows of the passages.
    """

    scores: NDArray[np.float32]
    indices: NDArray[np.int64]


class Index:
    """Passage embeddings that can be searched many times.

    For each row the index also keeps 8-bit codes, which take a quarter of the size of a float32 row. It keeps a shorter
    sketch as well, if the sketch makes searches of this data faster. A search reads the codes, whose error is bounded.
    It computes exact scores from the rows only for candidates that may be among the best. So its results are the true
    top-k.

    Args:
        passages: (n, d) float32 or float16, of any norm, in any memory order; copied, and kept bit for bit.
        ids: (n,) Ids of the passages: unique integers or strings. Default: their rows.
        threads: Number of threads that check and code the rows. Default: all that the process may use.

    Raises:
        TypeError: If ``passages`` is not a 2-D NumPy array of float32 or float16, or ``ids`` are neither all integers
            nor all strings.
        ValueError: If ``passages`` is empty, has a NaN, an infinity or a row of zeros (the message names the row and
            column) or more than 131,072 columns; if ``ids`` repeat or their number is not n; or if ``threads`` is not
            from 1 to 1024.
        MemoryError: If there is not enough memory for the copy.
    """

    def __init__(self, passages: Embeddings, *, ids: Any = None, threads: int | None = None) -> None:
        rows = as_rows("passages", passages)
        self._ids = None if ids is None else Ids.of(ids, len(rows))
        self._passages = Passages(to_core(rows), True, as_threads(threads))
        self._metadata: dict[str, str] = {}
        self._path: Path | None = None
        self._lock = threading.RLock()

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, verify: bool = False) -> Index:
        """Opens an index file, memory-mapped: parts are read from disk when they are needed.

        A search reads all codes, but only the rows that may be among its results. So an index may be larger than memory
        as long as its codes, a quarter of the size of float32 rows, fit.

        Args:
            path: The file.
            verify: Read the whole file and compare it with its checksums. The header and the size of the file are
                always checked. Default: False.

        Raises:
            OSError: If the file cannot be opened (FileNotFoundError, PermissionError, ...).
            IndexFileError: If the file is not an index, is truncated or altered, or has a newer version.
        """
        passages, ids, metadata = Passages.open(os.fspath(path), bool(verify))
        return cls._of(passages, None if ids is None else Ids.from_core(ids), metadata, Path(path).absolute())

    @classmethod
    def build(
        cls,
        path: str | os.PathLike[str],
        batches: Iterable[Embeddings],
        *,
        rows: int,
        ids: Any = None,
        texts: str | None = None,
        metadata: Mapping[str, str] | None = None,
        threads: int | None = None,
    ) -> Index:
        """Writes an index file batch by batch, with one batch in memory at a time, and opens it.

        Args:
            path: The file. It appears, or is replaced, when it is complete.
            batches: Arrays (m, d) of float32 or float16, all of the same width and type.
            rows: Total number of rows.
            ids: (rows,) As for :class:`Index`.
            texts: Location of the passages' texts, stored in the file; see :attr:`texts`.
            metadata: Further notes, stored in the file; see :attr:`metadata`.
            threads: As for :class:`Index`.

        Raises:
            TypeError: As :class:`Index`.
            ValueError: As :class:`Index`, or if batches differ in width or type, or their total number of rows is not
                ``rows``.
            OSError: If the file cannot be written.
        """
        rows = as_count("rows", rows, "of at least 1", least=1)
        threads = as_threads(threads)
        named = None if ids is None else Ids.of(ids, rows)
        notes = _as_metadata(metadata) | ({} if texts is None else {"texts": str(texts)})
        writer: IndexWriter | None = None
        dtype: np.dtype[Any] | None = None
        try:
            for position, batch in enumerate(batches):
                array = as_rows(f"batches: batch {position}", batch)
                if writer is None or dtype is None:
                    dtype = array.dtype
                    stored_ids = None if named is None else named.to_core()
                    writer = IndexWriter(os.fspath(path), rows, array.shape[1], dtype == np.float16, stored_ids, notes)
                if array.dtype != dtype:
                    raise ValueError(f"batches: expected dtype {dtype} like the first, got {array.dtype} in {position}")
                if len(array):
                    writer.append(to_core(array), threads)
            if writer is None:
                raise ValueError("batches: expected at least one")
            writer.finish()
        except BaseException:
            if writer is not None:
                writer.abandon()
            raise
        return cls.open(path)

    @classmethod
    def _of(cls, passages: Passages, ids: Ids | None, metadata: dict[str, str], path: Path | None) -> Index:
        index = cls.__new__(cls)
        index._passages = passages
        index._ids = ids
        index._metadata = metadata
        index._path = path
        index._lock = threading.RLock()
        return index

    def search(self, queries: Embeddings, k: int = 10, *, allow: Any = None, threads: int | None = None) -> Hits:
        """Finds the ``k`` passages of highest cosine for each query, exactly.

        A scan of the 8-bit codes, with a proven error bound, selects candidates. They are scored again in double
        precision, in one fixed order of summation, and rounded to float32 once. So a query's result always has the same
        bits: they do not depend on the other queries, on the number of threads, on the kernel, or on whether the index
        is in memory or in a file.

        Args:
            queries: (q, d) float32 or float16, of any norm.
            k: Number of results per query, from 1 to n. Default: 10.
            allow: The passages to consider: a boolean mask (n,), or their ids (their rows, in an index without ids).
                Default: all.
            threads: Number of threads. Default: all that the process may use.

        Returns:
            :class:`Hits` of shape (q, k), or (q, number of allowed passages) if that is smaller.

        Raises:
            TypeError: If ``queries`` is not a 2-D array of float32 or float16, ``k`` is not an integer, or ``allow`` is
                neither a mask nor ids.
            ValueError: If the dimensions differ, ``k`` is not from 1 to n, ``queries`` is empty or has a NaN, an
                infinity or a row of zeros, the length of the mask is not n, or an id is unknown.
        """
        with self._lock:
            # Passages and ids of the same version, even if other threads add or remove passages.
            passages = self._passages.snapshot()
            rows_allowed = None if allow is None else self._allowed(allow)
        k = as_count("k", k, f"from 1 to {passages.rows}, the number of passages", least=1)
        rows = to_core(as_rows("queries", queries))
        scores, indices, _ = passages.search_counted(rows, k, rows_allowed, as_threads(threads))
        return Hits(scores, indices)

    def _allowed(self, allow: Any) -> NDArray[np.bool_] | NDArray[np.int64]:
        if isinstance(allow, list | tuple) and allow and all(isinstance(value, bool) for value in allow):
            allow = np.array(allow)
        if isinstance(allow, np.ndarray) and allow.dtype == np.bool_:
            if allow.shape != (len(self),):
                raise ValueError(
                    f"allow: expected a mask of shape ({len(self)},), one value for each passage, got {allow.shape}"
                )
            return np.ascontiguousarray(allow)
        if isinstance(allow, np.ndarray) and allow.dtype.itemsize == 1 and allow.shape == (len(self),):
            raise TypeError(f"allow: expected a mask of dtype bool or ids, got {allow.dtype}, which may mean either")
        return self._rows_of("allow", allow)

    def _rows_of(self, name: str, ids: Any) -> NDArray[np.int64]:
        return as_row_numbers(name, ids, len(self)) if self._ids is None else self._ids.rows(name, ids)

    def add(self, passages: Embeddings, *, ids: Any = None, threads: int | None = None) -> None:
        """Appends passages; an error leaves the index unchanged.

        An index that was opened from a file is copied into memory first; the file does not change.

        Args:
            passages: (m, d) float32 or float16. A float16 index rejects float32, which would lose digits.
            ids: (m,) Ids of the passages. Required if the index has ids; otherwise not allowed.
            threads: As for :class:`Index`.

        Raises:
            TypeError: As :class:`Index`, or if ids are missing, not allowed, or of another type than the index's.
            ValueError: As :class:`Index`, or if the index already has an id.
        """
        rows = as_rows("passages", passages)
        if self.dtype == np.float16 and rows.dtype != np.float16:
            raise TypeError("passages: expected dtype float16, that of the index, got float32, which would lose digits")
        rows = rows.astype(self.dtype, copy=False)
        if (ids is None) != (self._ids is None):
            wanted = (
                "no ids, since the index does not have ids" if self._ids is None else "ids, since the index has them"
            )
            raise TypeError(f"ids: expected {wanted}")
        threads = as_threads(threads)
        with self._lock:
            extended = None if self._ids is None else self._ids.extend(Ids.of(ids, len(rows)))
            before = self._passages.rows
            try:
                self._passages.append(to_core(rows), threads)
            finally:
                # Ctrl-C may arrive after the rows have been appended.
                if self._passages.rows > before:
                    self._ids, self._path = extended, None

    def remove(self, ids: Any, *, threads: int | None = None) -> None:
        """Removes passages by id (by row, in an index without ids). The rows of later passages move up.

        An index that was opened from a file is copied into memory first; the file does not change.

        Raises:
            TypeError: If ``ids`` are neither all integers nor all strings.
            ValueError: If an id is unknown, or if no passage would remain.
        """
        threads = as_threads(threads)
        with self._lock:
            keep = np.ones(len(self), dtype=bool)
            keep[self._rows_of("ids", ids)] = False
            if not keep.any():
                raise ValueError("ids: expected at least one passage to be left")
            if keep.all():
                return
            left = None if self._ids is None else Ids(self._ids.values[keep])
            try:
                self._passages.select(keep, threads)
            finally:
                # Ctrl-C may arrive after the rows have been removed.
                if self._passages.rows < len(keep):
                    self._ids, self._path = left, None

    def save(self, path: str | os.PathLike[str], *, texts: str | None = None) -> None:
        """Writes the index to one file in the safetensors layout, which any safetensors reader can open.

        The file appears, or is replaced, when it is complete and on disk. An interruption at any moment leaves either
        the old file or the new one.

        Args:
            path: The file.
            texts: Location of the passages' texts, stored in the file. Default: unchanged.

        Raises:
            OSError: If the file cannot be written; an existing file does not change.
        """
        with self._lock:
            metadata = self._metadata if texts is None else {**self._metadata, "texts": str(texts)}
            self._passages.save(os.fspath(path), None if self._ids is None else self._ids.to_core(), metadata)
            self._metadata, self._path = metadata, Path(path).absolute()

    def embeddings(self, rows: Any = None) -> Embeddings:
        """A copy of stored rows.

        Args:
            rows: Row numbers, in any order; default: all.

        Returns:
            (m, d) float32 or float16, bit for bit as given.

        Raises:
            TypeError: If ``rows`` are not integers.
            ValueError: If a row is out of range.
        """
        passages = self._passages.snapshot()
        wanted = np.arange(passages.rows) if rows is None else as_row_numbers("rows", rows, passages.rows)
        return from_core(passages.take(wanted))

    def __len__(self) -> int:
        return self._passages.rows

    @property
    def dim(self) -> int:
        """Width of the embeddings."""
        return self._passages.dim

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the stored rows: float32 or float16."""
        return np.dtype(np.float16 if self._passages.is_half else np.float32)

    @property
    def nbytes(self) -> int:
        """Size of rows and codes in bytes, in memory or in the file."""
        return self._passages.nbytes

    @property
    def ids(self) -> NDArray[Any]:
        """(n,) int64 or object (str): the ids of the passages, or their rows in an index without ids.

        ``index.ids[hits.indices]`` gives the ids of hits.
        """
        return np.arange(len(self)) if self._ids is None else self._ids.values.copy()

    @property
    def has_ids(self) -> bool:
        """True if the passages have ids other than their rows."""
        return self._ids is not None

    @property
    def path(self) -> Path | None:
        """Absolute path of the file with this index; None if the index is not saved or has changed since."""
        return self._path

    @property
    def texts(self) -> str | None:
        """Location of the passages' texts, if :meth:`save` or :meth:`build` stored one."""
        return self._metadata.get("texts")

    @property
    def metadata(self) -> dict[str, str]:
        """A copy of the notes in the file, including :attr:`texts`."""
        return dict(self._metadata)

    def __reduce__(self) -> tuple[Any, ...]:
        if self._path is None:
            raise TypeError(
                "an index is pickled by the path of its file, and this one is in memory only: call save() first"
            )
        return _open, (str(self._path),)

    def __repr__(self) -> str:
        where = "" if self._path is None else f", path={str(self._path)!r}"
        return f"Index(passages={len(self)}, dim={self.dim}, dtype={self.dtype}, nbytes={self.nbytes}{where})"


def _as_metadata(metadata: Mapping[str, str] | None) -> dict[str, str]:
    notes = {} if metadata is None else dict(metadata)
    for key, value in notes.items():
        if not (isinstance(key, str) and isinstance(value, str)):
            raise TypeError(f"metadata: expected texts by names, got {value!r} under {key!r}")
    return notes


def _open(path: str) -> Index:
    return Index.open(path)


def search(
    queries: Embeddings,
    passages: Embeddings,
    k: int = 10,
    *,
    allow: Any = None,
    threads: int | None = None,
) -> Hits:
    """Finds the ``k`` passages of highest cosine for each query, exactly: :class:`Index` and its search in one call.

    Args:
        queries: (q, d) float32 or float16, of any norm.
        passages: (n, d) float32 or float16, of any norm.
        k: Number of results per query, from 1 to n. Default: 10.
        allow: The passages to consider: a boolean mask (n,), or their rows. Default: all.
        threads: Number of threads. Default: all that the process may use.

    Returns:
        :class:`Hits` of shape (q, k), or (q, number of allowed passages) if that is smaller.

    Raises:
        TypeError: As :class:`Index` and :meth:`Index.search`.
        ValueError: As :class:`Index` and :meth:`Index.search`.
    """
    rows = as_rows("passages", passages)
    # No sketch: testing whether it helps takes more time than it saves in a single search.
    index = Index._of(Passages(to_core(rows), False, as_threads(threads)), None, {}, None)
    return index.search(queries, k, allow=allow, threads=threads)
