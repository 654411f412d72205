"""Lists of rows, one per query, as concatenated arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relkt.arrays import as_count, without_tensor

Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class RowLists:
    """A list of passage rows for each query.

    Attributes:
        starts: (q + 1,) int64; list i is ``rows[starts[i]:starts[i + 1]]``.
        rows: (m,) int64.
    """

    starts: Integers
    rows: Integers

    @classmethod
    def none(cls, queries: int) -> RowLists:
        """Empty lists."""
        return cls(np.zeros(queries + 1, dtype=np.int64), np.empty(0, dtype=np.int64))

    @classmethod
    def of(cls, name: str, lists: Any, queries: int, passages: int, *, single: bool) -> RowLists:
        """Checks an argument: one row per query (if ``single``), a 2-D array of rows, or a list of rows per query.

        In a 2-D array, -1 means no row, as in the tables that :func:`relkt.mine` returns.

        Raises:
            TypeError: If the argument is something else, or a row is not an integer.
            ValueError: If there is not one entry per query, or a row is out of range; the message names the query.
        """
        lists = without_tensor(lists)
        if not isinstance(lists, Sequence | np.ndarray) or isinstance(lists, str | bytes):
            raise TypeError(f"{name}: expected a sequence with one entry for each query, got {type(lists).__name__}")
        if len(lists) != queries:
            raise ValueError(f"{name}: expected {queries} entries, one for each query, got {len(lists)}")
        found = _of_array(name, lists, single) if isinstance(lists, np.ndarray) else _of_sequence(name, lists, single)
        outside = np.flatnonzero((found.rows < 0) | (found.rows >= passages))
        if outside.size:
            query = int(np.searchsorted(found.starts, outside[0], side="right")) - 1
            raise ValueError(
                f"{name}: query {query} names the row {found.rows[outside[0]]}, expected a row from 0 to {passages - 1}"
            )
        return found

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def counts(self) -> Integers:
        """(q,) Length of each list."""
        return np.diff(self.starts)

    @property
    def queries(self) -> Integers:
        """(m,) The query of each row."""
        return np.repeat(np.arange(len(self)), self.counts)

    def block(self, start: int, stop: int) -> RowLists:
        """The lists of the queries from ``start`` to ``stop``."""
        starts = self.starts[start : stop + 1]
        return RowLists(starts - starts[0], self.rows[starts[0] : starts[-1]])

    def to_core(self) -> tuple[Integers, Integers]:
        """The arrays that the extension takes."""
        return self.starts, self.rows


def _of_array(name: str, rows: NDArray[Any], single: bool) -> RowLists:
    if not np.issubdtype(rows.dtype, np.integer):
        raise TypeError(f"{name}: expected integers, got dtype {rows.dtype}")
    if rows.ndim != 2 and not (single and rows.ndim == 1):
        shape = "(queries,) or (queries, rows)" if single else "(queries, rows)"
        raise TypeError(f"{name}: expected shape {shape}, got {rows.shape}")
    if rows.dtype == np.uint64 and rows.size and rows.max() > np.iinfo(np.int64).max:
        raise ValueError(f"{name}: expected row numbers below 2**63, got {rows.max()}")
    if rows.ndim == 1:
        return RowLists(np.arange(len(rows) + 1, dtype=np.int64), rows.astype(np.int64))
    given = rows != -1
    starts = np.concatenate([[0], np.cumsum(given.sum(axis=1))]).astype(np.int64)
    return RowLists(starts, rows[given].astype(np.int64))


def _of_sequence(name: str, lists: Sequence[Any], single: bool) -> RowLists:
    entries = [_entry(name, query, entry, single) for query, entry in enumerate(lists)]
    starts = np.zeros(len(entries) + 1, dtype=np.int64)
    np.cumsum(np.fromiter(map(len, entries), dtype=np.int64, count=len(entries)), out=starts[1:])
    flat = list(chain.from_iterable(entries))
    if all(type(value) is int for value in flat):
        try:
            return RowLists(starts, np.array(flat, dtype=np.int64))
        except OverflowError:
            pass
    for query, entry in enumerate(entries):
        for value in entry:
            as_count(f"{name}: query {query}", value, "row number of at least 0", least=0)
    return RowLists(starts, np.array([int(value) for value in flat], dtype=np.int64))


def _entry(name: str, query: int, entry: Any, single: bool) -> list[Any]:
    entry = without_tensor(entry)
    if isinstance(entry, np.ndarray):
        entry = entry.tolist()  # a 0-D array becomes a number
    if isinstance(entry, Iterable) and not isinstance(entry, str | bytes):
        return list(entry)
    if single and not isinstance(entry, str | bytes):
        return [entry]
    raise TypeError(f"{name}: query {query}: expected {'a row or ' if single else ''}a list of rows, got {entry!r}")


@dataclass(frozen=True, eq=False)
class Groups:
    """The group of each passage, numbered from 0.

    Attributes:
        numbers: (n,) int64.
        sizes: (g,) int64, number of passages in each group.
    """

    numbers: Integers
    sizes: Integers

    @classmethod
    def of(cls, groups: Integers) -> Groups:
        """Numbers the groups from 0; ``groups`` names them by any integers."""
        _, numbers, sizes = np.unique(groups, return_inverse=True, return_counts=True)
        return cls(numbers.astype(np.int64).reshape(-1), sizes.astype(np.int64))


def count_excluded(positives: RowLists, exclude: RowLists | None, groups: Groups | None, passages: int) -> Integers:
    """(q,) For each query, number of passages excluded by row or by a positive's group; positives are not counted."""
    counts = np.zeros(len(positives), dtype=np.int64)
    if exclude is None and groups is None:
        return counts
    # Each pair of a query and a row is encoded as one number.
    own = _distinct(positives.queries * passages + positives.rows)
    named = np.empty(0, dtype=np.int64)
    if exclude is not None:
        named = np.setdiff1d(_distinct(exclude.queries * passages + exclude.rows), own, assume_unique=True)
    if groups is not None:
        many = len(groups.sizes)
        blocked = _distinct(positives.queries * many + groups.numbers[positives.rows])
        np.add.at(counts, blocked // many, groups.sizes[blocked % many])
        np.subtract.at(counts, own // passages, 1)
        named = named[~np.isin(named // passages * many + groups.numbers[named % passages], blocked)]
    np.add.at(counts, named // passages, 1)
    return counts


def _distinct(numbers: Integers) -> Integers:
    """The distinct numbers, ascending. Sorting nearly sorted numbers is much faster than hashing them."""
    ordered = np.sort(numbers)
    return ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])] if ordered.size else ordered
