"""Batches of rows, shared by all formats."""

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
"""Maximum bytes of a batch, which has at least one row."""


def import_library(module: str, package: str) -> Any:
    """Import a module; an ImportError contains the command that installs its package."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(f"{module} is needed and cannot be imported ({error}): pip install {package}") from error


def some_rows(name: str, rows: int) -> int:
    """Check that the number of rows is not 0, and return it; ``name`` is the argument in the message."""
    if rows < 1:
        raise ValueError(f"{name}: expected at least one row, got none")
    return rows


def ranges(rows: int, row_bytes: int) -> Iterator[tuple[int, int]]:
    """Starts and stops of batches."""
    step = max(1, BATCH_BYTES // max(1, row_bytes))
    return ((start, min(start + step, rows)) for start in range(0, rows, step))


def batches_of(index: Index) -> Iterator[tuple[int, Embeddings]]:
    """The first row number and the rows of each batch."""
    for start, stop in ranges(len(index), index.dtype.itemsize * index.dim):
        yield start, index.embeddings(np.arange(start, stop))


def index_of(
    batches: Iterator[Embeddings], rows: int, ids: Any, output: str | os.PathLike[str] | None, threads: int | None
) -> Index:
    """An index of exactly ``rows`` rows, in memory or in the file ``output``."""
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
