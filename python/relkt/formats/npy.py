"""NumPy files."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from relkt.formats.batches import batches_of, index_of, ranges, some_rows
from relkt.index import Index
from relkt.storage import atomic_file


def from_npy(
    path: str | os.PathLike[str],
    *,
    ids: Any = None,
    output: str | os.PathLike[str] | None = None,
    threads: int | None = None,
) -> Index:
    """Import the rows of a ``.npy`` file, which is memory-mapped and read in batches.

    Args:
        path: A file with an (n, d) float32 or float16 array, in either memory order.
        ids: (n,) As for :class:`relkt.Index`. Default: the row numbers.
        output: An index file to write batch by batch and open. Default: None, the index stays in memory.
        threads: As for :class:`relkt.Index`.

    Returns:
        The index; its rows have the order of the source.

    Raises:
        TypeError: If the array has another type or number of dimensions.
        ValueError: If the file is not a ``.npy`` file, or as :class:`relkt.Index`.
        OSError: If a file cannot be read or written; a new ``output`` is removed, an old one is kept.
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
            f"path: expected dtype float32 or float16, got {array.dtype}; to convert it, with a loss of digits: "
            "np.save(new_path, np.load(path).astype(np.float32))"
        )
    rows = some_rows("path", len(array))
    if output is None:
        # The index copies the mapped rows, so batches are not needed.
        return Index(array, ids=ids, threads=threads)
    cuts = ranges(rows, array.dtype.itemsize * array.shape[1])
    return index_of((array[start:stop] for start, stop in cuts), rows, ids, output, threads)


def to_npy(index: Index, path: str | os.PathLike[str]) -> None:
    """Export the stored rows, bit for bit, to a ``.npy`` file with an (n, d) float32 or float16 array.

    The write is atomic. The file has no ids; ``index.ids`` are the ids of its rows.

    Raises:
        OSError: If the file cannot be written; an old file is kept.
    """
    descr = np.lib.format.dtype_to_descr(index.dtype)
    header = {"descr": descr, "fortran_order": False, "shape": (len(index), index.dim)}
    # Written, not memory-mapped: on a full disk a write raises an error, but a store to a map kills the process.
    with atomic_file(path) as file:
        np.lib.format.write_array_header_1_0(file, header)
        for _, batch in batches_of(index):
            file.write(batch.data)
