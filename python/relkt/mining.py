"""Hard and semi-hard negatives, found inside the exact search."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relkt._relkt import Passages
from relkt.arrays import Embeddings, as_count, as_rows, as_threads, to_border


@dataclass(frozen=True, eq=False)
class MinedNegatives:
    """Negatives of each query, highest score first; a query with fewer has -1 and NaN in the places that are left.

    Attributes:
        hard_indices: (q, num_hard) int64, rows of passages that score above the query's positive.
        hard_scores: (q, num_hard) float32, their cosines.
        semi_hard_indices: (q, num_semi_hard) int64, rows that score less than ``margin`` below it.
        semi_hard_scores: (q, num_semi_hard) float32.
        positive_scores: (q,) float32, the lowest score among each query's positives.
    """

    hard_indices: NDArray[np.int64]
    hard_scores: NDArray[np.float32]
    semi_hard_indices: NDArray[np.int64]
    semi_hard_scores: NDArray[np.float32]
    positive_scores: NDArray[np.float32]


def mine(
    queries: Embeddings,
    passages: Embeddings,
    positives: NDArray[np.int64] | Sequence[int] | Sequence[Sequence[int]],
    *,
    num_hard: int = 1,
    num_semi_hard: int = 1,
    margin: float = 0.1,
    groups: NDArray[np.int64] | Sequence[int] | None = None,
    exclude: Sequence[Sequence[int]] | None = None,
    threads: int | None = None,
) -> MinedNegatives:
    """Mines hard and semi-hard negatives for every query in one pass over the passages.

    With s_p the lowest score among a query's positives, a passage with score s is a hard negative if s > s_p, and a
    semi-hard one if s_p - margin < s < s_p; a score equal to s_p makes neither. All conditions hold inside the search,
    so a query gets its negatives whenever they exist. Scores are as exact as those of :func:`relkt.search`.

    Args:
        queries: (q, d) float32 or float16, of any norm.
        passages: (n, d) float32 or float16, of any norm.
        positives: The row of each query's positive, or a list of rows for each query. Never negatives.
        num_hard: Hard negatives for each query, at most; 0 to n. Default 1.
        num_semi_hard: Semi-hard negatives for each query, at most; 0 to n. Default 1.
        margin: Width of the semi-hard window as a difference of cosines, 0 to 2. Default 0.1.
        groups: (n,) The group (document) of each passage, any integers; passages of a positive's group are no
            candidates. Default: no groups.
        exclude: For each query, further rows that are no candidates.
        threads: Threads to use; default: all that the process may use.

    Returns:
        :class:`MinedNegatives`.

    Raises:
        TypeError: If an array has the wrong dtype or number of dimensions, or a count or row is no integer.
        ValueError: If sizes do not fit together, a query has no positive, a row is out of range, ``margin`` is not
            from 0 to 2, both counts are 0, or an embedding is not finite or all zeros.

    Reference:
        CL-ReLKT (Limkonchotiwat et al., 2022), section 2.1, and the authors' ``negative_mining``, which works with
        distances 1 - s and one positive. We depart in taking the lowest score of several positives as s_p.
    """
    query_rows = as_rows("queries", queries)
    mined = Passages(to_border(as_rows("passages", passages)), False, as_threads(threads)).mine(
        to_border(query_rows),
        _row_lists("positives", positives, len(query_rows), flat=True),
        as_count("num_hard", num_hard, "of at least 0", least=0),
        as_count("num_semi_hard", num_semi_hard, "of at least 0", least=0),
        _margin(margin),
        None if groups is None else _groups(groups),
        None if exclude is None else _row_lists("exclude", exclude, len(query_rows), flat=False),
        as_threads(threads),
    )
    return MinedNegatives(*mined)


def _margin(margin: Any) -> float:
    if isinstance(margin, bool | np.bool_) or not isinstance(margin, int | float | np.integer | np.floating):
        raise TypeError(f"margin: expected a number from 0 to 2, got {margin!r}")
    if not 0 <= margin <= 2:
        raise ValueError(f"margin: expected a number from 0 to 2, got {margin}")
    return float(margin)


def _row_lists(name: str, rows: Any, queries: int, *, flat: bool) -> list[list[int]]:
    if isinstance(rows, np.ndarray):
        if not np.issubdtype(rows.dtype, np.integer):
            raise TypeError(f"{name}: expected integers, got dtype {rows.dtype}")
        rows = rows.tolist()
    if not isinstance(rows, Sequence) or isinstance(rows, str | bytes):
        raise TypeError(f"{name}: expected a sequence with one entry for each query, got {type(rows).__name__}")
    if len(rows) != queries:
        raise ValueError(f"{name}: expected {queries} entries, one for each query, got {len(rows)}")
    lists = []
    for query, entry in enumerate(rows):
        if isinstance(entry, np.ndarray):
            entry = entry.tolist()  # a number if it has no dimension
        values = entry if isinstance(entry, Iterable) else [entry] if flat else None
        if values is None or isinstance(entry, str | bytes):
            raise TypeError(
                f"{name}: query {query}: expected {'a row or ' if flat else ''}a list of rows, got {entry!r}"
            )
        lists.append([as_count(f"{name}: query {query}", v, "row number of at least 0", least=0) for v in values])
    return lists


def _groups(groups: Any) -> NDArray[np.int64]:
    array = np.asarray(groups)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"groups: expected a 1-D array of integers, got shape {array.shape} of {array.dtype}")
    if array.dtype == np.uint64 and array.size and array.max() > np.iinfo(np.int64).max:
        raise ValueError("groups: expected numbers below 2**63")
    return array.astype(np.int64)
