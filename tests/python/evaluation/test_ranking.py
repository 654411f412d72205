"""Exact ranking at each level."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from relkt.data import Level, RetrievalData
from relkt.evaluation import (
    evaluate_embeddings,
    rank,
)

Rows = NDArray[np.float32]


def rank_documents_by_loops(data: RetrievalData, queries: Rows, passages: Rows, k: int) -> list[list[str]]:
    """Ranks documents by the cosine (float64, rounded to float32) and then the row of their best passage."""
    out = []
    for query in queries.astype(np.float64):
        scores = [
            np.float32(query @ p / (np.linalg.norm(query) * np.linalg.norm(p))) for p in passages.astype(np.float64)
        ]
        best: dict[str, tuple[np.float32, int]] = {}
        for row, (passage, score) in enumerate(zip(data.passages, scores, strict=True)):
            best[passage.document] = max(best.get(passage.document, (np.float32(-2), 0)), (score, -row))
        out.append(sorted(best, key=lambda d: best[d], reverse=True)[:k])
    return out


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("documents", [2, 25])
def test_documents_are_ranked_by_their_best_passage_exactly(
    seed: int, documents: int, random_data: Callable[..., tuple[RetrievalData, Rows, Rows]]
) -> None:
    data, queries, passages = random_data(seed, documents=documents)
    ranking = rank(queries, passages, data, level=Level.BEST_PASSAGE)
    assert len(ranking.candidate_ids) == len({p.document for p in data.passages})
    found = [[ranking.candidate_ids[row] for row in rows] for rows in ranking.rows]
    assert found == rank_documents_by_loops(data, queries, passages, 10)
    assert (np.diff(ranking.scores, axis=1) <= 0).all()


def test_a_document_with_many_passages_does_not_crowd_out_others(
    circle: Callable[..., Rows], data_set: Callable[..., RetrievalData]
) -> None:
    # 200 passages of one document rank before all others, so the search has to go deeper.
    documents = ["big"] * 200 + [f"d{i}" for i in range(15)]
    data = data_set(documents, [[204], [0]])
    angles = [i / 1000 for i in range(200)] + [1 + i for i in range(15)]
    ranking = rank(circle(0, 0), circle(*angles), data, level="best-passage")
    assert [ranking.candidate_ids[row] for row in ranking.rows[0]] == ["big", *(f"d{i}" for i in range(9))]
    report = evaluate_embeddings(circle(0, 0), circle(*angles), data, level="best-passage", num_resamples=0)
    assert report.value("MRR@10", "en") == pytest.approx((1 / 6 + 1) / 2)
    assert report.num_candidates == 16


def test_document_level_ranks_joined_documents(
    circle: Callable[..., Rows], data_set: Callable[..., RetrievalData]
) -> None:
    data = data_set(["a", "b", "a"], [[2]])
    report = evaluate_embeddings(circle(0), circle(5, 1), data, level="document", num_resamples=0)
    assert report.num_candidates == 2
    assert report.value("MRR@10", "en") == pytest.approx(1 / 2)


def test_every_metric_ranks_equal_scores_by_row(data_set: Callable[..., RetrievalData]) -> None:
    # All 12 passages have the same score. ir-measures would break ties by id, which gives another order.
    same = np.ones((12, 2), dtype=np.float32)
    for positive, place in ((0, 1), (1, 2), (9, 10), (10, None)):
        data = data_set([f"d{i}" for i in range(12)], [[positive]])
        report = evaluate_embeddings(same[:1], same, data, num_resamples=0)
        assert report.value("MRR@10", "en") == pytest.approx(1 / place if place else 0)
        assert report.value("P@1", "en") == (place == 1)
        assert report.value("P@10", "en") == (place is not None)
