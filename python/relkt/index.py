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
from relkt.arrays import Embeddings, as_count, as_rows, as_threads, from_border, to_border
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
    """Passage embeddings, ready to be searched many times.

    Beside each row the index keeps 8-bit codes, a quarter of a float32 row, and, where the data is such that this saves
    time, a shorter sketch of it. A search reads these, whose error is bounded, and scores exactly, from the rows, only
    what may be among the best: so its results are the true top-k.

    Args:
        passages: (n, d) float32 or float16, of any norm, in any memory order; copied, and kept bit for bit.
        ids: (n,) What the passages are called by: integers or strings, each once. Default: their rows.
        threads: Threads for the checks and the codes; default: all that the process may use.

    Raises:
        TypeError: If ``passages`` is not a 2-D NumPy array of float32 or float16, or ``ids`` are neither all integers
            nor all strings.
        ValueError: If it is empty, has a NaN, an infinity or a row of zeros (the message names the row and column),
            more than 131,072 columns, ids that are not one for each passage or not each once, or ``threads`` is not
            from 1 to 1024.
        MemoryError: If there is no memory for the copy.
    """

    def __init__(self, passages: Embeddings, *, ids: Any = None, threads: int | None = None) -> None:
        rows = as_rows("passages", passages)
        self._ids = None if ids is None else Ids.of(ids, len(rows))
        self._passages = Passages(to_border(rows), True, as_threads(threads))
        self._metadata: dict[str, str] = {}
        self._path: Path | None = None
        self._lock = threading.RLock()

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, verify: bool = False) -> Index:
        """Opens an index file and searches it where it lies: parts are read from the disk when they are needed.

        A search reads all codes, and of the rows only those that may be among its results, so an index larger than
        memory works as long as its codes, a quarter of float32 rows, fit.

        Args:
            path: The file.
            verify: Read everything and compare it with the checksums. The header and the size of the file are always
                checked. Default: no.

        Raises:
            OSError: If the file cannot be opened (FileNotFoundError, PermissionError, ...).
            IndexFileError: If it is no index file, was cut short or altered, or has a newer version.
        """
        passages, ids, metadata = Passages.open(os.fspath(path), bool(verify))
        return cls._of(passages, None if ids is None else Ids.from_border(ids), metadata, Path(path).absolute())

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
            path: The file; it appears, or is replaced, once it is complete.
            batches: Arrays (m, d), float32 or float16, all of the same width and type.
            rows: How many rows there will be in all.
            ids: (rows,) As for :class:`Index`.
            texts: Where the passages' texts are, for whoever opens the file; see :attr:`texts`.
            metadata: Further notes for whoever opens the file; see :attr:`metadata`.
            threads: As for :class:`Index`.

        Raises:
            TypeError: As :class:`Index`.
            ValueError: As :class:`Index`, or if batches differ in width or type, or have more or fewer rows in all.
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
                    border = None if named is None else named.to_border()
                    writer = IndexWriter(os.fspath(path), rows, array.shape[1], dtype == np.float16, border, notes)
                if array.dtype != dtype:
                    raise ValueError(f"batches: expected dtype {dtype} like the first, got {array.dtype} in {position}")
                if len(array):
                    writer.append(to_border(array), threads)
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
        """The ``k`` passages of highest cosine for each query, exactly.

        A query's result is the same, bit for bit, whatever the other queries, the number of threads, the kernel, and
        whether the index is in memory or in a file: candidates from a pass over 8-bit codes, whose error is bounded by
        a proof, are scored again in double precision, in one fixed order of summation, and rounded to float32 once.

        Args:
            queries: (q, d) float32 or float16, of any norm.
            k: Results for each query, 1 to n. Default 10.
            allow: The passages that are considered: a boolean mask (n,), or their ids (their rows, in an index without
                ids). Default: all.
            threads: Threads to use; default: all that the process may use.

        Returns:
            :class:`Hits` of shape (q, k), or (q, number of allowed passages) if that is less.

        Raises:
            TypeError: If ``queries`` is not a 2-D array of float32 or float16, ``k`` no integer, or ``allow`` neither
                mask nor ids.
            ValueError: If the dimensions differ, ``k`` is not from 1 to n, ``queries`` is empty, has a NaN, an
                infinity or a row of zeros, the mask has another length than the index, or there is no such id.
        """
        with self._lock:
            # Passages and ids that belong together, whatever other threads add or remove meanwhile.
            passages = self._passages.snapshot()
            rows_allowed = None if allow is None else self._allowed(allow)
        k = as_count("k", k, f"from 1 to {passages.rows}, the number of passages", least=1)
        rows = to_border(as_rows("queries", queries))
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
        """Appends passages; on an error nothing has changed.

        An index that was opened from a file is copied into memory first; the file stays as it is.

        Args:
            passages: (m, d) float32 or float16; an index of float16 refuses float32, which would lose digits.
            ids: (m,) Their ids, if the index has ids, and only then.
            threads: As for :class:`Index`.

        Raises:
            TypeError: As :class:`Index`, or if ids are missing, unwanted, or of another kind.
            ValueError: As :class:`Index`, or if an id is there already.
        """
        rows = as_rows("passages", passages)
        if self.dtype == np.float16 and rows.dtype != np.float16:
            raise TypeError("passages: expected dtype float16, that of the index, got float32, which would lose digits")
        rows = rows.astype(self.dtype, copy=False)
        if (ids is None) != (self._ids is None):
            wanted = "no ids, since the index has none" if self._ids is None else "ids, since the index has them"
            raise TypeError(f"ids: expected {wanted}")
        threads = as_threads(threads)
        with self._lock:
            extended = None if self._ids is None else self._ids.extend(Ids.of(ids, len(rows)))
            before = self._passages.rows
            try:
                self._passages.append(to_border(rows), threads)
            finally:
                # Ctrl-C may come when the rows are there already.
                if self._passages.rows > before:
                    self._ids, self._path = extended, None

    def remove(self, ids: Any, *, threads: int | None = None) -> None:
        """Removes passages by id (by row, in an index without ids); those behind them move up.

        An index that was opened from a file is copied into memory first; the file stays as it is.

        Raises:
            TypeError: If ``ids`` are neither all integers nor all strings.
            ValueError: If there is no such passage, or none would be left.
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
                # Ctrl-C may come when the rows are gone already.
                if self._passages.rows < len(keep):
                    self._ids, self._path = left, None

    def save(self, path: str | os.PathLike[str], *, texts: str | None = None) -> None:
        """Writes the index to one file, in the safetensors layout, which :meth:`open` and any safetensors reader opens.

        The file appears, or is replaced, once it is complete and on the disk: whatever happens in between, there is
        either the old file or the new one.

        Args:
            path: The file.
            texts: Where the passages' texts are, for whoever opens the file; default: as it was.

        Raises:
            OSError: If the file cannot be written; an old one is left as it was.
        """
        with self._lock:
            metadata = self._metadata if texts is None else {**self._metadata, "texts": str(texts)}
            self._passages.save(os.fspath(path), None if self._ids is None else self._ids.to_border(), metadata)
            self._metadata, self._path = metadata, Path(path).absolute()

    def embeddings(self, rows: Any = None) -> Embeddings:
        """A copy of stored rows.

        Args:
            rows: Row numbers, in any order; default: all.

        Returns:
            (m, d) float32 or float16, bit for bit as they came.

        Raises:
            TypeError: If ``rows`` are no integers.
            ValueError: If one is out of range.
        """
        passages = self._passages.snapshot()
        wanted = np.arange(passages.rows) if rows is None else as_row_numbers("rows", rows, passages.rows)
        return from_border(passages.take(wanted))

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
        """Bytes of rows and codes, in memory or in the file."""
        return self._passages.nbytes

    @property
    def ids(self) -> NDArray[Any]:
        """(n,) int64, or object (of str): what the passages are called by; their rows, in an index without ids.

        ``index.ids[hits.indices]`` are the ids of hits.
        """
        return np.arange(len(self)) if self._ids is None else self._ids.values.copy()

    @property
    def has_ids(self) -> bool:
        """Whether the passages have ids other than their rows."""
        return self._ids is not None

    @property
    def path(self) -> Path | None:
        """The file, by its absolute path, that holds just this index, if it was opened or saved and has not changed."""
        return self._path

    @property
    def texts(self) -> str | None:
        """Where the passages' texts are, if :meth:`save` was told."""
        return self._metadata.get("texts")

    @property
    def metadata(self) -> dict[str, str]:
        """A copy of the notes kept in the file, :attr:`texts` among them."""
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
    """The ``k`` passages of highest cosine for each query, exactly: :class:`Index` and its search in one call.

    Args:
        queries: (q, d) float32 or float16, of any norm.
        passages: (n, d) float32 or float16, of any norm.
        k: Results for each query, 1 to n. Default 10.
        allow: The passages that are considered: a boolean mask (n,), or their rows. Default: all.
        threads: Threads to use; default: all that the process may use.

    Returns:
        :class:`Hits` of shape (q, k), or (q, number of allowed passages) if that is less.

    Raises:
        TypeError: As :class:`Index` and :meth:`Index.search`.
        ValueError: As :class:`Index` and :meth:`Index.search`.
    """
    rows = as_rows("passages", passages)
    # For a single search, finding out whether a sketch would speed it up takes longer than it saves.
    index = Index._of(Passages(to_border(rows), False, as_threads(threads)), None, {}, None)
    return index.search(queries, k, allow=allow, threads=threads)
