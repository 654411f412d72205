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
"""How far from 1 the norm of a row may be for its inner product to pass as its cosine."""


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
    library = import_library("faiss", "faiss-cpu")
    if isinstance(index, str | os.PathLike):
        index = _read_faiss(library, os.fspath(index))
    flat = index
    if isinstance(index, library.IndexIDMap):
        flat = library.downcast_index(index.index)
        ids = library.vector_to_array(index.id_map) if ids is None else ids
    if not isinstance(flat, library.IndexFlat) or flat.metric_type != library.METRIC_INNER_PRODUCT:
        kind = type(flat).__name__ if flat is index else f"{type(flat).__name__} in an {type(index).__name__}"
        raise TypeError(f"index: expected a faiss IndexFlatIP, by itself or in an IndexIDMap, got {kind}")
    rows = some_rows("index", flat.ntotal)

    def batches() -> Iterator[Embeddings]:
        for start, stop in ranges(rows, 4 * flat.d):
            batch = flat.reconstruct_n(start, stop - start)
            if check_norms:
                _check_norms(batch, start)
            yield batch

    return index_of(batches(), rows, ids, output, threads)


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
    library = import_library("faiss", "faiss-cpu")
    ids = index.ids if with_ids else None
    if ids is not None and ids.dtype != np.int64:
        raise TypeError("with_ids: expected an index with integer ids, which are all that faiss knows, got strings")
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
