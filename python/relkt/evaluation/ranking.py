"""Exact ranking of candidates, at each level."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relkt.data import Level, RetrievalData, parse_member
from relkt.index import Index


@dataclass(frozen=True)
class Ranking:
    """The top-k candidates of each query.

    Args:
        query_ids: (q,) ids of the queries.
        candidate_ids: (n,) ids of all candidates.
        rows: (q, k) int64, rows of ``candidate_ids``, best first.
        scores: (q, k) float32, cosines, best first; candidates of equal score are ordered by the rows of the passages.
    """

    query_ids: tuple[str, ...]
    candidate_ids: tuple[str, ...]
    rows: NDArray[np.int64]
    scores: NDArray[np.float32]


class Ranker:
    """Ranks the candidates of a level exactly.

    Args:
        candidate_embeddings: (n, d) float32, row i for row i of ``data.candidates(level)``, of any norm.
        data: The candidates.
        level: Unit that is ranked. At ``Level.BEST_PASSAGE`` the embeddings are the passages', and documents are ranked
            by their best passage; documents of equal score are ordered by the row of their best passage.
        threads: As in :func:`relkt.index.search`.

    Attributes:
        candidate_ids: Ids of the ranked units (documents at ``Level.BEST_PASSAGE``).

    Raises:
        ValueError: If the rows do not match ``data``, or as :class:`relkt.index.Index`.
        TypeError: As :class:`relkt.index.Index`.
    """

    def __init__(
        self,
        candidate_embeddings: NDArray[np.float32],
        data: RetrievalData,
        *,
        level: Level | str = Level.PASSAGE,
        threads: int | None = None,
    ) -> None:
        level = parse_member(Level, level, "level")
        candidates = data.candidates(level)
        check_rows("candidate_embeddings", candidate_embeddings, len(candidates.ids), "candidates")
        self._index = Index(candidate_embeddings, threads=threads)
        self._threads = threads
        self._document_rows: NDArray[np.int64] | None = None
        self.candidate_ids = candidates.ids
        if level is Level.BEST_PASSAGE:
            self.candidate_ids = tuple(dict.fromkeys(candidates.documents))
            row_of = {document: row for row, document in enumerate(self.candidate_ids)}
            self._document_rows = np.array([row_of[d] for d in candidates.documents], dtype=np.int64)

    def best(self, query_embeddings: NDArray[np.float32], k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Returns the top-k candidates of each query.

        Args:
            query_embeddings: (q, d) float32, of any norm.
            k: Number of results per query; all candidates if there are fewer.

        Returns:
            (q, k) int64, rows of ``candidate_ids``, best first, and (q, k) float32, their cosines.
        """
        k = min(k, len(self.candidate_ids))
        if self._document_rows is None:
            hits = self._index.search(query_embeddings, k, threads=self._threads)
            return hits.indices, hits.scores
        return _rank_documents(self._index, query_embeddings, self._document_rows, k, self._threads)


def rank(
    query_embeddings: NDArray[np.float32],
    candidate_embeddings: NDArray[np.float32],
    data: RetrievalData,
    *,
    level: Level | str = Level.PASSAGE,
    k: int = 10,
    threads: int | None = None,
) -> Ranking:
    """Ranks the candidates of a level exactly, for every query.

    Args:
        query_embeddings: (q, d) float32, row i for ``data.queries[i]``, of any norm.
        candidate_embeddings: As in :class:`Ranker`.
        data: The queries and candidates.
        level: As in :class:`Ranker`.
        k: Number of results per query; all candidates if there are fewer.
        threads: As in :func:`relkt.index.search`.

    Raises:
        ValueError: If the rows do not match ``data``, or as :func:`relkt.index.search`.
        TypeError: As :func:`relkt.index.search`.
    """
    check_rows("query_embeddings", query_embeddings, len(data.queries), "queries")
    ranker = Ranker(candidate_embeddings, data, level=level, threads=threads)
    rows, scores = ranker.best(query_embeddings, k)
    return Ranking(tuple(q.id for q in data.queries), ranker.candidate_ids, rows, scores)


def _rank_documents(
    index: Index, queries: NDArray[np.float32], document_rows: NDArray[np.int64], k: int, threads: int | None
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Ranks documents by their best passages.

    In a ranking of passages, a document's first passage is its best, so the first k distinct documents are the k best.
    Each search of a query is twice as deep as the last, until its results contain k documents.
    """
    rows = np.empty((len(queries), k), dtype=np.int64)
    scores = np.empty((len(queries), k), dtype=np.float32)
    pending = np.arange(len(queries))
    depth = min(4 * k, len(index))
    while len(pending):
        hits = index.search(queries[pending], depth, threads=threads)
        documents = document_rows[hits.indices]  # (pending, depth)
        first = _first_occurrences(documents)
        done = first.sum(axis=1) >= k
        first &= first.cumsum(axis=1) <= k
        rows[pending[done]] = documents[done][first[done]].reshape(-1, k)
        scores[pending[done]] = hits.scores[done][first[done]].reshape(-1, k)
        pending = pending[~done]
        depth = min(2 * depth, len(index))
    return rows, scores


def _first_occurrences(values: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Mask of the first occurrence of each value in each row."""
    order = np.argsort(values, axis=1, kind="stable")
    ordered = np.take_along_axis(values, order, axis=1)
    is_new = np.ones(values.shape, dtype=np.bool_)
    is_new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    first = np.empty_like(is_new)
    np.put_along_axis(first, order, is_new, axis=1)
    return first


def check_rows(name: str, embeddings: NDArray[np.float32], rows: int, what: str) -> None:
    """Raises ValueError if a matrix does not have one row per text."""
    if embeddings.ndim != 2 or len(embeddings) != rows:
        raise ValueError(f"{name}: expected shape ({rows}, d), one row for each of the {what}, got {embeddings.shape}")
