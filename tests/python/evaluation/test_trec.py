"""TREC run and qrels files."""

from __future__ import annotations

from pathlib import Path

import ir_measures
import numpy as np
import pytest

from relkt.data import Passage, Query, RetrievalData
from relkt.evaluation import (
    Report,
    evaluate_embeddings,
)
from relkt.evaluation.trec import strictly_falling


def test_exported_files_measure_the_same(report: Report, tmp_path: Path) -> None:
    report.write_run(tmp_path / "run.trec")
    report.write_qrels(tmp_path / "qrels.trec")
    run = list(ir_measures.read_trec_run(str(tmp_path / "run.trec")))
    qrels = list(ir_measures.read_trec_qrels(str(tmp_path / "qrels.trec")))
    assert len(run) == 40 * 10
    names = {"P@1": "Success@1", "P@5": "Success@5", "P@10": "Success@10", "MRR@10": "RR@10", "nDCG@10": "nDCG@10"}
    for metric, name in names.items():
        measured = ir_measures.iter_calc([ir_measures.parse_measure(name)], qrels, run)
        values = {m.query_id: m.value for m in measured}
        german = [values[f"q{i}"] for i in range(40) if i % 3 == 1]
        assert report.value(metric, "de") == pytest.approx(np.mean(german)), metric


def test_run_lines(tmp_path: Path) -> None:
    passages = (Passage("a b", "x", "d"), Passage("100%", "y", "d"))
    data = RetrievalData("toy", passages, (Query("q", "?", "en", "q"),), {"q": {"a b": 1}})
    same = np.ones((2, 2), dtype=np.float32)
    report = evaluate_embeddings(same[:1], same, data, num_resamples=0)
    report.write_run(tmp_path / "run", tag="mine")
    report.write_qrels(tmp_path / "qrels")
    assert (tmp_path / "run").read_text() == "q Q0 a%20b 1 1 mine\nq Q0 100%25 2 0.99999994 mine\n"
    assert (tmp_path / "qrels").read_text() == "q 0 a%20b 1\n"
    with pytest.raises(ValueError, match="tag: expected one word, got 'two words'"):
        report.write_run(tmp_path / "other", tag="two words")
    assert not (tmp_path / "other").exists()


def test_strictly_falling_keeps_distinct_scores() -> None:
    scores = np.array([[0.9, 0.5, -0.1], [0.5, 0.5, 0.5], [0.0, 0.0, -0.0]], dtype=np.float32)
    out = strictly_falling(scores)
    assert (out[:, 1:] < out[:, :-1]).all()
    np.testing.assert_array_equal(out[0], scores[0])
    np.testing.assert_allclose(out, scores, atol=1e-6)
