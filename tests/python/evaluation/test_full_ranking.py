"""Average precision over all candidates."""

from __future__ import annotations

from collections.abc import Callable

import ir_measures
import numpy as np
import pytest
from numpy.typing import NDArray

from relkt.data import Level, RetrievalData
from relkt.evaluation import (
    METRICS,
    Ranker,
    Report,
    average_precision,
    evaluate_embeddings,
)

Rows = NDArray[np.float32]


def test_average_precision_by_hand(circle: Callable[..., Rows], data_set: Callable[..., RetrievalData]) -> None:
    # 30 passages at 1, 2, ... 30 degrees: passage i has rank i + 1. Ranks beyond 10 count, too.
    data = data_set([f"d{i}" for i in range(30)], [[0, 29], [3], [1, 4, 14]], ["en", "en", "th"])
    report = evaluate_embeddings(circle(0, 0, 0), circle(*range(1, 31)), data, full_ranking=True, num_resamples=0)
    english, thai = ((1 + 2 / 30) / 2 + 1 / 4) / 2, (1 / 2 + 2 / 5 + 3 / 15) / 3
    assert report.value("mAP", "en") == pytest.approx(english, abs=1e-12)
    assert report.value("mAP", "th") == pytest.approx(thai, abs=1e-12)
    assert report.average("mAP").value == pytest.approx((english + thai) / 2, abs=1e-12)
    assert tuple(report.estimates) == ("mAP", *METRICS)
    assert Report.from_json(report.to_json()) == report
    assert "| mAP | P@1 |" in report.to_markdown()


def test_average_precision_ranks_equal_scores_by_row(
    circle: Callable[..., Rows], data_set: Callable[..., RetrievalData]
) -> None:
    data = data_set(["a", "b", "c", "d"], [[1], [2, 3]])
    report = evaluate_embeddings(circle(0, 0), circle(5, 5, 5, 5), data, full_ranking=True, num_resamples=0)
    assert report.value("mAP", "en") == pytest.approx((1 / 2 + (1 / 3 + 2 / 4) / 2) / 2, abs=1e-12)


@pytest.mark.parametrize("level", list(Level))
def test_average_precision_equals_ir_measures_for_any_block_size(
    level: Level, monkeypatch: pytest.MonkeyPatch, random_data: Callable[..., tuple[RetrievalData, Rows, Rows]]
) -> None:
    data, queries, passages = random_data(3)
    if level is Level.DOCUMENT:
        passages = np.random.default_rng(4).integers(1, 4, (len(data.candidates(level).ids), 3)).astype(np.float32)
    query_ids, qrels = [q.id for q in data.queries], data.candidate_qrels(level)
    ranker = Ranker(passages, data, level=level)
    n = len(ranker.candidate_ids)
    values = average_precision(ranker, queries, query_ids, qrels)
    run = {
        query: {ranker.candidate_ids[row]: float(-place) for place, row in enumerate(rows)}
        for query, rows in zip(query_ids, ranker.best(queries, n)[0], strict=True)
    }
    expected = {m.query_id: m.value for m in ir_measures.iter_calc([ir_measures.AP], qrels, run)}
    assert values == pytest.approx([expected[query] for query in query_ids], abs=1e-12)
    for at_once in (1, 3 * n, 7 * n + 1):
        monkeypatch.setattr("relkt.evaluation.full_ranking._RANKS_AT_ONCE", at_once)
        assert np.array_equal(average_precision(ranker, queries, query_ids, qrels), values)
