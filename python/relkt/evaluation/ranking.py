"""Embeddings to ranked candidates, at each level, and TREC files of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from relkt.data import Level, RetrievalData, parse_member
from relkt.index import Index
from relkt.storage import atomic_file


@dataclass(frozen=True)
class Ranking:
    """The best candidates of each query.

    Args:
        query_ids: (q,) ids, in the order of the queries ranked.
        candidate_ids: (n,) ids of all candidates at the level ranked.
        rows: (q, k) int64, rows of ``candidate_ids``, best first.
        scores: (q, k) float32, cosines, falling; equal scores stand in the order of the passages' rows.
    """

    query_ids: tuple[str, ...]
    candidate_ids: tuple[str, ...]
    rows: NDArray[np.int64]
    scores: NDArray[np.float32]


class Ranker:
    """The candidates of a level, ready to be ranked for queries, exactly.

    Args:
        candidate_embeddings: (n, d) float32, row i for row i of ``data.candidates(level)``, of any norm.
        data: The candidates.
        level: What is ranked. At ``Level.BEST_PASSAGE`` the embeddings are the passages', and documents are ranked by
            their best passage; among documents of equal score, the one whose best passage has the lower row is first.
        threads: As in :func:`relkt.index.search`.

    Attributes:
        candidate_ids: Ids of what is ranked: at ``Level.BEST_PASSAGE``, the documents'.

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
        """The best candidates of each query.

        Args:
            query_embeddings: (q, d) float32, of any norm.
            k: Results a query; all candidates if there are fewer.

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
    """Ranks the candidates of a level for every query, exactly.

    Args:
        query_embeddings: (q, d) float32, row i for ``data.queries[i]``, of any norm.
        candidate_embeddings: As in :class:`Ranker`.
        data: The queries and candidates.
        level: As in :class:`Ranker`.
        k: Results a query; all candidates if there are fewer.
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
    """The first k different documents among the ranked passages of each query.

    The first passage of a document in a ranking is its best one, so the first k documents met are the k best; a query
    is searched again, twice as deep, until its results hold k documents.
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
    """Mask of the entries that are the first of their value in their row."""
    order = np.argsort(values, axis=1, kind="stable")
    ordered = np.take_along_axis(values, order, axis=1)
    is_new = np.ones(values.shape, dtype=np.bool_)
    is_new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    first = np.empty_like(is_new)
    np.put_along_axis(first, order, is_new, axis=1)
    return first


def write_run(ranking: Ranking, path: str | Path, tag: str = "relkt") -> None:
    """Writes a ranking as a TREC run: ``query Q0 candidate rank score tag``.

    Tools that read a run sort it by score (trec_eval in single precision, equal scores by id), so equal scores are
    written apart by the least step of float32, downwards: the order read back is the order of the ranking.

    Args:
        ranking: What to write.
        path: The file to write.
        tag: Name of the run, one word.

    Raises:
        ValueError: If the tag is not one word.
    """
    _check_tag(tag)
    with atomic_file(path) as file:
        for query, rows, scores in zip(ranking.query_ids, ranking.rows, ranking.scores, strict=True):
            lines = run_lines(query, [ranking.candidate_ids[row] for row in rows], scores, tag)
            file.write(lines.encode())


def run_lines(query_id: str, candidate_ids: Sequence[str], scores: NDArray[np.float32], tag: str = "relkt") -> str:
    """The lines of one query in a TREC run; see :func:`write_run`.

    Args:
        query_id: The query.
        candidate_ids: Its results, best first.
        scores: (k,) float32, falling.
        tag: Name of the run, one word.

    Raises:
        ValueError: If the tag is not one word.
    """
    _check_tag(tag)
    apart = strictly_falling(scores[None, :])[0]
    # 9 significant digits tell every float32 from its neighbours.
    return "".join(
        f"{_trec_id(query_id)} Q0 {_trec_id(candidate)} {place} {score:.9g} {tag}\n"
        for place, (candidate, score) in enumerate(zip(candidate_ids, apart, strict=True), start=1)
    )


def write_qrels(query_ids: Sequence[str], qrels: Mapping[str, Mapping[str, int]], path: str | Path) -> None:
    """Writes judgements as TREC qrels: ``query 0 candidate relevance``, for the queries named, in their order."""
    with atomic_file(path) as file:
        for query in query_ids:
            for candidate, relevance in qrels[query].items():
                file.write(f"{_trec_id(query)} 0 {_trec_id(candidate)} {relevance}\n".encode())


def strictly_falling(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same scores, each at least one float32 step below the one before it.

    Args:
        scores: (q, k) float32, falling along rows.
    """
    out = scores.copy()
    for column in range(1, out.shape[1]):
        below = np.nextafter(out[:, column - 1], np.float32(-np.inf))
        out[:, column] = np.minimum(out[:, column], below)
    return out


def _check_tag(tag: str) -> None:
    if tag.split() != [tag]:
        raise ValueError(f"tag: expected one word, got {tag!r}")


def _trec_id(identifier: str) -> str:
    """An id as one word: white space and the percent sign are percent-encoded, as in URLs."""
    return "".join(quote(c, safe="") if c.isspace() or c == "%" else c for c in identifier)


def check_rows(name: str, embeddings: NDArray[np.float32], rows: int, what: str) -> None:
    """Raises ValueError if a matrix has not as many rows as there are texts."""
    if embeddings.ndim != 2 or len(embeddings) != rows:
        raise ValueError(f"{name}: expected shape ({rows}, d), a row for each of the {what}, got {embeddings.shape}")
