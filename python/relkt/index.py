"""Exact top-k search by cosine over passage embeddings."""

from __future__ import annotations

import operator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from relkt._relkt import Passages


class Hits(NamedTuple):
    """Results of a search, best first: higher score first, then lower row.

    Attributes:
        scores: (q, k) float32, cosines in [-1, 1], each rounded once from double precision.
        indices: (q, k) int64, rows of the passages.
    """

    scores: NDArray[np.float32]
    indices: NDArray[np.int64]


class Index:
    """Passage embeddings in memory, ready to be searched many times.

    Args:
        passages: (n, d) float32 or float16, of any norm, in any memory order; copied. float16 is widened to float32,
            which changes no value.
        threads: Threads for the copy and its checks; default: all that the process may use.

    Raises:
        TypeError: If ``passages`` is not a 2-D NumPy array of float32 or float16.
        ValueError: If it is empty, has a NaN, an infinity or a row of zeros (the message names the row and column), or
            ``threads`` is not from 1 to 1024.
        MemoryError: If there is no memory for the copy.
    """

    def __init__(self, passages: NDArray[np.float32] | NDArray[np.float16], *, threads: int | None = None) -> None:
        self._passages = Passages(as_rows("passages", passages), as_threads(threads))

    def search(
        self, queries: NDArray[np.float32] | NDArray[np.float16], k: int = 10, *, threads: int | None = None
    ) -> Hits:
        """The ``k`` passages of highest cosine for each query, exactly.

        A query's result is the same, bit for bit, whatever the other queries, the number of threads, and the kernel:
        candidates from a float32 pass with a proven error bound are scored again in double precision, in one fixed
        order of summation, and rounded to float32 once.

        Args:
            queries: (q, d) float32 or float16, of any norm.
            k: Results for each query, 1 to n. Default 10.
            threads: Threads to use; default: all that the process may use.

        Returns:
            :class:`Hits` of shape (q, k).

        Raises:
            TypeError: If ``queries`` is not a 2-D array of float32 or float16, or ``k`` no integer.
            ValueError: If the dimensions differ, ``k`` is not from 1 to n, or ``queries`` is empty, has a NaN, an
                infinity or a row of zeros.
        """
        k = as_count("k", k, f"from 1 to {len(self)}, the number of passages", least=1)
        return Hits(*self._passages.search(as_rows("queries", queries), k, as_threads(threads)))

    def __len__(self) -> int:
        return self._passages.rows

    @property
    def dim(self) -> int:
        """Width of the embeddings."""
        return self._passages.dim

    @property
    def nbytes(self) -> int:
        """Bytes of memory held."""
        return self._passages.nbytes

    def __repr__(self) -> str:
        return f"Index(passages={len(self)}, dim={self.dim}, nbytes={self.nbytes})"


def search(
    queries: NDArray[np.float32] | NDArray[np.float16],
    passages: NDArray[np.float32] | NDArray[np.float16],
    k: int = 10,
    *,
    threads: int | None = None,
) -> Hits:
    """The ``k`` passages of highest cosine for each query, exactly: :class:`Index` and its search in one call.

    Args:
        queries: (q, d) float32 or float16, of any norm.
        passages: (n, d) float32 or float16, of any norm.
        k: Results for each query, 1 to n. Default 10.
        threads: Threads to use; default: all that the process may use.

    Returns:
        :class:`Hits` of shape (q, k).

    Raises:
        TypeError: As :class:`Index` and :meth:`Index.search`.
        ValueError: As :class:`Index` and :meth:`Index.search`.
    """
    return Index(passages, threads=threads).search(queries, k, threads=threads)


def as_rows(name: str, array: object) -> NDArray[np.float32]:
    """A 2-D float32 or float16 array as aligned, C-contiguous float32; copies only if it must."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name}: expected a 2-D NumPy array of float32 or float16, got {type(array).__name__}")
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"{name}: expected a plain array, got a masked one; fill it, or select the rows that count")
    if array.dtype not in (np.float32, np.float16):
        raise TypeError(f"{name}: expected dtype float32 or float16, got {array.dtype}")
    if array.ndim != 2:
        raise TypeError(f"{name}: expected 2 dimensions (rows, columns), got shape {array.shape}")
    return np.require(array, np.float32, ["C", "A"])


def as_threads(threads: Any) -> int | None:
    """A number of threads, or None for all."""
    return None if threads is None else as_count("threads", threads, "of at least 1, or None for all", least=1)


def as_count(name: str, value: Any, expected: str, *, least: int) -> int:
    """An integer of at least ``least``; floats are refused rather than cut, and so are booleans."""
    try:
        count = operator.index(value)
    except TypeError:
        count = None
    if count is None or isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}: expected an integer {expected}, got {value!r}")
    if not least <= count < 2**63:
        raise ValueError(f"{name}: expected an integer {expected}, got {count}")
    return count
