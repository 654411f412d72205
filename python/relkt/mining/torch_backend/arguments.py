"""Arguments of a call: their types and checks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

#: Number of candidates to find, and the exclusive limits of their scores: (b,) float64 each.
ScoreWindow = tuple[int, NDArray[np.float64], NDArray[np.float64]]
#: Concatenated rows of all queries: starts (b + 1,) and rows, int64.
Lists = tuple[NDArray[np.int64], NDArray[np.int64]]
#: Pairs of a query and a row (or group): (m,) int64 each.
Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]


def checked_windows(lists: Sequence[ScoreWindow], size: int, rows: int) -> list[ScoreWindow]:
    """Checks windows for ``size`` queries, with 1 to ``rows`` candidates each. Returns them with contiguous limits."""
    if not lists:
        raise ValueError("lists: expected at least one list of negatives, got none")
    windows = []
    for num, *limits in lists:
        if not 1 <= num <= rows:
            raise ValueError(f"num: expected a number from 1 to {rows}, the number of passages, got {num}")
        above, below = (np.ascontiguousarray(limit, dtype=np.float64) for limit in limits)
        for limit in (above, below):
            if limit.shape != (size,):
                raise ValueError(f"windows: expected {size}, one for each query, got {limit.size}")
        unknown = np.flatnonzero(np.isnan(above) | np.isnan(below))
        if len(unknown) > 0:
            raise ValueError(f"windows: expected numbers as limits, got NaN for query {unknown[0]}")
        windows.append((num, above, below))
    return windows


def checked_pairs(name: str, lists: Lists, size: int, rows: int) -> Pairs:
    """Checks lists of rows below ``rows`` for ``size`` queries, and returns them as pairs."""
    starts, named = (np.ascontiguousarray(part, dtype=np.int64) for part in lists)
    if len(starts) != size + 1:
        raise ValueError(f"{name}: expected {size} lists, one for each query, got {len(starts) - 1}")
    if starts[0] != 0 or starts[-1] != len(named) or np.any(starts[1:] < starts[:-1]):
        raise ValueError(f"{name}: expected starts that rise from 0 to {len(named)}, the number of rows")
    queries = np.repeat(np.arange(size, dtype=np.int64), np.diff(starts))
    wrong = np.flatnonzero((named < 0) | (named >= rows))
    if len(wrong) > 0:
        query, row = queries[wrong[0]], named[wrong[0]]
        raise ValueError(f"{name}: query {query} names the row {row}, expected a row from 0 to {rows - 1}")
    return queries, named


def check_groups(groups: NDArray[np.int64], rows: int) -> None:
    """Checks that each of the ``rows`` passages has a group."""
    if groups.shape != (rows,):
        got = len(groups) if groups.ndim == 1 else f"shape {groups.shape}"
        raise ValueError(f"groups: expected {rows} values, one for each passage, got {got}")
