"""Arrays of mined negatives, filled block by block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from relkt.mining.conditions import MiningConditions, Strategy
from relkt.mining.rows import Groups, RowLists, count_excluded
from relkt.mining.sampling import draw


@dataclass(frozen=True, eq=False)
class Skipped:
    """Number of passages skipped for ``indices``, per query and reason; each (q,) int64.

    Attributes:
        excluded: Passages that ``exclude`` or the groups of the positives exclude. Positives are not counted.
        too_similar: Passages that score above the upper limit. This limit is the lowest of ``max_score`` and the limits
            of the margins. Positives are not counted.
        near_positive: Candidates that ``max_positive_similarity`` rejects although they rank before the last candidate
            considered.
        range_min: Candidates skipped because they are among the top ``range_min``.
    """

    excluded: NDArray[np.int64]
    too_similar: NDArray[np.int64]
    near_positive: NDArray[np.int64]
    range_min: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class MinedNegatives:
    """Negatives of each query, highest score first; missing negatives are -1 in rows and NaN in scores.

    Attributes:
        indices: (q, num_negatives) int64, rows of passages.
        scores: (q, num_negatives) float32, their cosines.
        counts: (q,) int64, number of negatives of each query in ``indices``.
        hard_indices: (q, num_hard) int64, rows of passages that score above the query's positive.
        hard_scores: (q, num_hard) float32.
        semi_hard_indices: (q, num_semi_hard) int64, rows of passages that score less than ``margin`` below the
            positive.
        semi_hard_scores: (q, num_semi_hard) float32.
        positive_scores: (q,) float32, the lowest score among each query's positives; NaN without positives.
        skipped: Number of passages skipped for ``indices``, by reason.
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
    """Finds the candidates of a block of queries: the extension's ``Passages``, or torch on a GPU."""

    def lowest_positive(
        self, queries: Any, positives: tuple[NDArray[np.int64], NDArray[np.int64]], threads: int | None
    ) -> NDArray[np.float32]:
        """The lowest score among each query's positives; NaN without positives."""

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
        """For each list: padded rows and scores, number of rows above the window, and number of near-duplicates."""


@dataclass(frozen=True, eq=False)
class Job:
    """The arguments that all blocks of a call share.

    Attributes:
        conditions: The conditions.
        positives: Rows of the positives, for all queries of the call.
        exclude: Rows to exclude, for all queries of the call, or None.
        groups: Groups of all passages, or None.
        passages: Number of passages.
        first_query: Position of the call's first query, for random samples.
    """

    conditions: MiningConditions
    positives: RowLists
    exclude: RowLists | None
    groups: Groups | None
    passages: int
    first_query: int


class Results:
    """Arrays of results, filled block by block."""

    def __init__(self, conditions: MiningConditions, queries: int) -> None:
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
        lowest = backend.lowest_positive(queries, positives.to_core(), threads)
        lists = backend.mine(
            queries,
            conditions.windows(lowest, job.passages),
            positives.to_core(),
            None if exclude is None else exclude.to_core(),
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
        """The results of all blocks."""
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
    """Copies a block's rows and scores into the leading columns; other columns, if any, stay empty."""
    table[0][block, : rows.shape[1]] = rows
    table[1][block, : scores.shape[1]] = scores


def _take(table: NDArray[Any], columns: NDArray[np.int64], padding_value: float) -> NDArray[Any]:
    """The entries of each row in the given ``columns``; ``padding_value`` where the column is -1."""
    padding = np.full((len(table), 1), padding_value, dtype=table.dtype)
    return np.take_along_axis(np.concatenate([table, padding], axis=1), columns, axis=1)
