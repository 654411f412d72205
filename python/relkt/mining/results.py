"""What is mined of each query, filled in block by block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from relkt.mining.conditions import Conditions, Strategy
from relkt.mining.rows import Groups, RowLists, count_excluded
from relkt.mining.sampling import draw


@dataclass(frozen=True, eq=False)
class Skipped:
    """Why candidates of each query were passed over, for ``indices``; each (q,) int64.

    Attributes:
        excluded: Passages, positives apart, that ``exclude`` or the groups of its positives name.
        too_similar: Passages, positives apart, that score above the upper limit: ``max_score``, or that which a margin
            leaves below the positive.
        near_positive: Candidates that ``max_positive_similarity`` refused and that would stand before the last one
            considered.
        range_min: Candidates passed over as they are among the ``range_min`` best.
    """

    excluded: NDArray[np.int64]
    too_similar: NDArray[np.int64]
    near_positive: NDArray[np.int64]
    range_min: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class MinedNegatives:
    """Negatives of each query, highest score first; a query with fewer has -1 and NaN in the places that are left.

    Attributes:
        indices: (q, num_negatives) int64, rows of passages.
        scores: (q, num_negatives) float32, their cosines.
        counts: (q,) int64, how many each query has in ``indices``.
        hard_indices: (q, num_hard) int64, rows of passages that score above the query's positive.
        hard_scores: (q, num_hard) float32.
        semi_hard_indices: (q, num_semi_hard) int64, rows that score less than ``margin`` below it.
        semi_hard_scores: (q, num_semi_hard) float32.
        positive_scores: (q,) float32, the lowest score among each query's positives; NaN for a query without.
        skipped: Why candidates of ``indices`` were passed over.
    """

    indices: NDArray[np.int64]
    scores: NDArray[np.float32]
    counts: NDArray[np.int64]
    hard_indices: NDArray[np.int64]
    hard_scores: NDArray[np.float32]
    semi_hard_indices: NDArray[np.int64]
    semi_hard_scores: NDArray[np.float32]
    positive_scores: NDArray[np.float32]
    skipped: Skipped


class Backend(Protocol):
    """Who finds the candidates of a block of queries: the extension's ``Passages``, or torch on a GPU."""

    def lowest_positive(
        self, queries: Any, positives: tuple[NDArray[np.int64], NDArray[np.int64]], threads: int | None
    ) -> NDArray[np.float32]:
        """The lowest score among each query's positives, NaN without."""

    def mine(
        self,
        queries: Any,
        lists: Sequence[tuple[int, NDArray[np.float64], NDArray[np.float64]]],
        positives: tuple[NDArray[np.int64], NDArray[np.int64]],
        exclude: tuple[NDArray[np.int64], NDArray[np.int64]] | None,
        groups: NDArray[np.int64] | None,
        max_positive_similarity: float | None,
        threads: int | None,
    ) -> list[tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]]:
        """For each list: rows and scores, padded; rows at or above the window; candidates too near a positive."""


@dataclass(frozen=True, eq=False)
class Job:
    """What is the same for all blocks of a call; ``positives``, ``exclude`` and ``groups`` are those of :func:`mine`.

    Attributes:
        conditions: Checked.
        positives: Of all queries of the call.
        exclude: The same; None for none.
        groups: Of all passages; None for none.
        passages: Their number.
        first_query: What the draw counts the call's queries from.
    """

    conditions: Conditions
    positives: RowLists
    exclude: RowLists | None
    groups: Groups | None
    passages: int
    first_query: int


class Results:
    """Arrays of the results, filled block by block."""

    def __init__(self, conditions: Conditions, queries: int) -> None:
        def table(num: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
            return np.full((queries, num), -1, dtype=np.int64), np.full((queries, num), np.nan, dtype=np.float32)

        def zeros() -> NDArray[np.int64]:
            return np.zeros(queries, dtype=np.int64)

        self._top = table(conditions.num_negatives)
        self._hard = table(conditions.num_hard)
        self._semi_hard = table(conditions.num_semi_hard)
        self._positive_scores = np.empty(queries, dtype=np.float32)
        self._skipped = Skipped(zeros(), zeros(), zeros(), zeros())

    def put(self, start: int, stop: int, job: Job, backend: Backend, queries: Any, threads: int | None) -> None:
        """Mines a block of queries."""
        conditions, block = job.conditions, slice(start, stop)
        positives = job.positives.block(start, stop)
        exclude = None if job.exclude is None else job.exclude.block(start, stop)
        lowest = backend.lowest_positive(queries, positives.to_border(), threads)
        lists = backend.mine(
            queries,
            conditions.wanted(lowest, job.passages),
            positives.to_border(),
            None if exclude is None else exclude.to_border(),
            None if job.groups is None else job.groups.numbers,
            conditions.max_positive_similarity,
            threads,
        )
        self._positive_scores[block] = lowest
        for table in (self._semi_hard, self._hard):
            if table[0].shape[1]:
                _fill(table, block, *lists.pop()[:2])
        if not lists:
            return
        candidates, values, too_similar, near_positive = lists.pop()
        skipped = self._skipped
        counts = (candidates >= 0).sum(axis=1)
        skipped.excluded[block] = count_excluded(positives, exclude, job.groups, job.passages)
        skipped.too_similar[block], skipped.near_positive[block] = too_similar, near_positive
        skipped.range_min[block] = np.minimum(counts, conditions.range_min)
        candidates, values = candidates[:, conditions.range_min :], values[:, conditions.range_min :]
        if conditions.strategy is Strategy.RANDOM:
            columns = draw(
                np.maximum(counts - conditions.range_min, 0),
                candidates.shape[1],
                conditions.num_negatives,
                seed=conditions.seed,
                first_query=job.first_query + start,
            )
            candidates, values = _take(candidates, columns, -1), _take(values, columns, np.nan)
        _fill(self._top, block, candidates, values)

    def finished(self) -> MinedNegatives:
        """All of it."""
        indices, scores = self._top
        counts = (indices >= 0).sum(axis=1).astype(np.int64)
        return MinedNegatives(
            indices, scores, counts, *self._hard, *self._semi_hard, self._positive_scores, self._skipped
        )


def _fill(
    table: tuple[NDArray[np.int64], NDArray[np.float32]],
    block: slice,
    rows: NDArray[np.int64],
    scores: NDArray[np.float32],
) -> None:
    """Puts a block's rows and scores into the first places: more than there are passages stay empty."""
    table[0][block, : rows.shape[1]] = rows
    table[1][block, : scores.shape[1]] = scores


def _take(table: NDArray[Any], columns: NDArray[np.int64], padding_value: float) -> NDArray[Any]:
    """Entries of each row; padding where the column is -1."""
    padding = np.full((len(table), 1), padding_value, dtype=table.dtype)
    return np.take_along_axis(np.concatenate([table, padding], axis=1), columns, axis=1)
