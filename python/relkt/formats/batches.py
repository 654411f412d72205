"""What all formats share: batches of rows, and an index from them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relkt.arrays import Embeddings
from relkt.index import Index

BATCH_BYTES = 16 << 20
"""Bytes of rows in a batch, at most (a batch has at least one row)."""


def import_library(module: str, package: str) -> Any:
    """A module; if it cannot be imported, an ImportError with the line that installs its package."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{module} is needed for this and cannot be imported ({error}): pip install {package}"
        ) from error


def some_rows(name: str, rows: int) -> int:
    """The number of rows, which must not be 0; ``name`` is the argument they came by."""
    if rows < 1:
        raise ValueError(f"{name}: expected at least one row, got none")
    return rows


def ranges(rows: int, row_bytes: int) -> Iterator[tuple[int, int]]:
    """Where batches start and stop."""
    step = max(1, BATCH_BYTES // max(1, row_bytes))
    return ((start, min(start + step, rows)) for start in range(0, rows, step))


def batches_of(index: Index) -> Iterator[tuple[int, Embeddings]]:
    """The first row of each batch, and its rows."""
    for start, stop in ranges(len(index), index.dtype.itemsize * index.dim):
        yield start, index.embeddings(np.arange(start, stop))


def index_of(
    batches: Iterator[Embeddings], rows: int, ids: Any, output: str | os.PathLike[str] | None, threads: int | None
) -> Index:
    """An index in memory, or in the file ``output``, of as many rows as were announced."""
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
