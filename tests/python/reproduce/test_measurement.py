"""BM25 as a system, and the measurement of a run."""

from __future__ import annotations

import json

import numpy as np
import pytest

from relkt.data import Level, Passage, Query, RetrievalData
from relkt.reproduce.measurement import Measurement, StageResult, measure_bm25, rank_bm25

# Two documents; the second passage of each is about the sea.
PASSAGES = (
    Passage("a0", "tides tides rise with the moon", "A"),
    Passage("a1", "a ship at sea", "A"),
    Passage("b0", "iron rusts in salt water", "B"),
    Passage("b1", "a ship at sea", "B"),
)
QUESTIONS = ("Which ship?", "Why does iron rust, iron that rusts?", "Nothing shared, whatever", "ship, moon")


@pytest.fixture
def test_data() -> RetrievalData:
    queries = tuple(Query(f"q{i}", text, "en", f"q{i}") for i, text in enumerate(QUESTIONS))
    return RetrievalData("toy", PASSAGES, queries, {"q0": {"b1": 1}, "q1": {"b0": 1}, "q2": {"a0": 1}, "q3": {"a0": 1}})


def test_bm25_ranks_by_words_and_breaks_ties_by_order(test_data: RetrievalData) -> None:
    ranking = rank_bm25(test_data, Level.PASSAGE)
    assert ranking.candidate_ids == ("a0", "a1", "b0", "b1")
    # "ship" is in a1 and b1, "iron" and "rusts" only in b0; no passage has a word of the third question.
    assert ranking.rows[:3].tolist() == [[1, 3, 0, 2], [2, 0, 1, 3], [0, 1, 2, 3]]
    assert (np.diff(ranking.scores, axis=1) <= 0).all()
    assert ranking.scores[0, 0] == ranking.scores[0, 1] > ranking.scores[0, 2] == 0


def test_documents_by_their_best_passage(test_data: RetrievalData) -> None:
    ranking = rank_bm25(test_data, Level.BEST_PASSAGE)
    assert ranking.candidate_ids == ("A", "B")
    assert ranking.rows.tolist() == [[0, 1], [1, 0], [0, 1], [0, 1]]
    passages = rank_bm25(test_data, Level.PASSAGE)
    assert ranking.scores[0].tolist() == passages.scores[0, :2].tolist()  # a1 and b1, the best of A and B
    assert ranking.scores[1, 1] == 0


def test_bm25_measured(test_data: RetrievalData) -> None:
    values = measure_bm25(test_data)
    # P@1, ..., MRR@10: b1 is second to a1; b0 and a0 are first; for "ship, moon" a0 holds the rarer word.
    assert values[Level.PASSAGE][0].tolist() == [0, 1, 1, 1]
    assert values[Level.PASSAGE][3].tolist() == [0.5, 1, 1, 1]
    assert values[Level.BEST_PASSAGE][0].tolist() == [0, 1, 1, 1]
    # As one text, A has both words of "ship, moon", and B has one.
    assert values[Level.DOCUMENT][0].tolist()[1:] == [1, 1, 1]


def test_a_measurement_survives_json() -> None:
    rng = np.random.default_rng(0)
    measurement = Measurement(
        languages=("en", "de"),
        values={level: rng.random((5, 3)) for level in Level},
        seconds=1.5,
        finished="2026-01-02T03:04:05+00:00",
        machine={"cpu": "x", "cores": 2, "threads": 1, "gpu": None, "versions": {"relkt": "1"}},
        curve=((0, 0.25), (4, 0.5)),
        stages=(StageResult("before", 0.25, {"passage": {"en": 0.5}}),),
    )
    read = Measurement.from_dict(json.loads(json.dumps(measurement.to_dict())))
    assert read.to_dict() == measurement.to_dict()
    assert (read.curve, read.stages, read.languages) == (measurement.curve, measurement.stages, ("en", "de"))
    for level in Level:
        np.testing.assert_array_equal(read.values[level], measurement.values[level])
    with pytest.raises(
        ValueError, match=r"content: expected the values of a measurement, got an error: KeyError\('lan"
    ):
        Measurement.from_dict({})
