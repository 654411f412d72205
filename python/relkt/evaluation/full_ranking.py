"""Average precision over the whole ranking of the candidates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from relkt.evaluation.ranking import Ranker

_RANKS_AT_ONCE = 4_000_000  # about 100 MB


def average_precision(
    ranker: Ranker,
    query_embeddings: NDArray[np.float32],
    query_ids: Sequence[str],
    qrels: Mapping[str, Mapping[str, int]],
) -> NDArray[np.float64]:
    """Computes the average precision of each query over the ranking of all candidates.

    This is the mean of the precisions at the ranks of a query's R relevant candidates: ``sum_i (i / rank_i) / R``,
    where ``rank_i`` is the i-th smallest of these ranks. There is no cutoff (AP in ir-measures). Candidates of equal
    score are ordered by row, as everywhere in relkt.

    Args:
        ranker: The candidates.
        query_embeddings: (q, d) float32, of any norm.
        query_ids: (q,) ids.
        qrels: Query id -> candidate id -> relevance. A relevance above 0 counts as relevant; every query has a relevant
            candidate.

    Returns:
        (q,) float64 in (0, 1].
    """
    row_of = {candidate: row for row, candidate in enumerate(ranker.candidate_ids)}
    n = len(row_of)
    values = np.empty(len(query_ids))
    # The full ranking needs queries x candidates entries of memory, so it is computed in blocks of queries.
    step = max(1, _RANKS_AT_ONCE // n)
    for start in range(0, len(query_ids), step):
        rows, _ = ranker.best(query_embeddings[start : start + step], n)  # (b, n)
        ranks = np.empty_like(rows)
        np.put_along_axis(ranks, rows, np.arange(1, n + 1)[None, :], axis=1)
        for number, (query, rank_of) in enumerate(zip(query_ids[start : start + step], ranks, strict=True), start):
            relevant = [row_of[candidate] for candidate, relevance in qrels[query].items() if relevance > 0]
            values[number] = np.mean(np.arange(1, len(relevant) + 1) / np.sort(rank_of[relevant]))
    return values
