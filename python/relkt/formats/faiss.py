"""faiss indexes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from relkt.arrays import Embeddings
from relkt.formats.batches import batches_of, import_library, index_of, ranges, some_rows
from relkt.index import Index

if TYPE_CHECKING:
    import faiss  # type: ignore[import-untyped]

NORM_TOLERANCE = 1e-3
"""Largest deviation of a row's norm from 1 at which inner products are accepted as cosines."""


def from_faiss(
    index: faiss.Index | str | os.PathLike[str],
    *,
    ids: Any = None,
    check_norms: bool = True,
    output: str | os.PathLike[str] | None = None,
    threads: int | None = None,
) -> Index:
    """Import the rows of a faiss index for inner products.

    faiss ranks by inner product and relkt by cosine. For rows of norm 1, both rankings are equal. If the queries also
    have norm 1, the scores are equal, too.

    Args:
        index: An ``IndexFlatIP``, alone or in an ``IndexIDMap`` (or ``IndexIDMap2``); or the path of a file with such
            an index, which is memory-mapped if faiss supports it.
        ids: (n,) As for :class:`relkt.Index`. Default: the ids of the ``IndexIDMap``, or the row numbers.
        check_norms: Refuse rows whose norm differs from 1 by more than 1e-3. If False, rows of any norm are accepted,
            and ranked by cosine. Default: True.
        output: An index file to write batch by batch and open. Default: None, the index stays in memory.
        threads: As for :class:`relkt.Index`.

    Returns:
        The index; its rows, (n, d) float32, have the order of the source.

    Raises:
        ImportError: If faiss is not installed.
        TypeError: If ``index`` is not a faiss index of these kinds.
        ValueError: If the index is empty, the norm of a row is not 1 (the message names the first), an id is repeated,
            the file is not a faiss index, or as :class:`relkt.Index`.
        OSError: If a file cannot be read or written; a new ``output`` is removed, an old one is kept.
    """
    library = import_library("faiss", "faiss-cpu")
    if isinstance(index, str | os.PathLike):
        index = _read_faiss(library, os.fspath(index))
    flat = index
    if isinstance(index, library.IndexIDMap):
        flat = library.downcast_index(index.index)
        ids = library.vector_to_array(index.id_map) if ids is None else ids
    if not isinstance(flat, library.IndexFlat) or flat.metric_type != library.METRIC_INNER_PRODUCT:
        kind = type(flat).__name__ if flat is index else f"{type(flat).__name__} in an {type(index).__name__}"
        raise TypeError(f"index: expected a faiss IndexFlatIP, alone or in an IndexIDMap, got {kind}")
    rows = some_rows("index", flat.ntotal)

    def batches() -> Iterator[Embeddings]:
        for start, stop in ranges(rows, 4 * flat.d):
            batch = flat.reconstruct_n(start, stop - start)
            if check_norms:
                _check_norms(batch, start)
            yield batch

    return index_of(batches(), rows, ids, output, threads)


def to_faiss(index: Index, *, with_ids: bool = False) -> faiss.IndexFlatIP | faiss.IndexIDMap:
    """Export to a faiss index in memory, whose inner products with queries of norm 1 are cosines.

    Args:
        index: The index; its rows may have any norm.
        with_ids: Let faiss return the ids, which must be integers, instead of row numbers. Default: False.

    Returns:
        An ``IndexFlatIP`` of the rows divided by their norms (in double precision, then rounded to float32), in the
        same order; with ids, inside an ``IndexIDMap``.

    Raises:
        ImportError: If faiss is not installed.
        TypeError: If ``with_ids`` is True and the ids are strings.
    """
    library = import_library("faiss", "faiss-cpu")
    ids = index.ids if with_ids else None
    if ids is not None and ids.dtype != np.int64:
        raise TypeError("with_ids: expected an index with integer ids, since faiss has no others, got strings")
    exported = library.IndexFlatIP(index.dim)
    if ids is not None:
        exported = library.IndexIDMap(exported)
    for start, batch in batches_of(index):
        exact = batch.astype(np.float64)
        unit = (exact / np.linalg.norm(exact, axis=1, keepdims=True)).astype(np.float32)
        if ids is None:
            exported.add(unit)
        else:
            exported.add_with_ids(unit, ids[start : start + len(unit)])
    return exported


def _read_faiss(library: Any, path: str) -> Any:
    with Path(path).open("rb"):
        pass  # raises Python's OSError, which is clearer than the error of faiss
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
            f"{start + at}; with check_norms=False, rows of any norm are accepted, and ranked by cosine"
        )
