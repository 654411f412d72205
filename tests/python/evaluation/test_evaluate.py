"""Evaluation, compared with values computed by hand and by plain loops."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from relkt.data import Passage, Query, RetrievalData, Split
from relkt.evaluation import (
    METRICS,
    Average,
    Report,
    evaluate,
    evaluate_embeddings,
    measure,
    rank,
)

Rows = NDArray[np.float32]


def unit(angle: float) -> list[float]:
    return [math.cos(math.radians(angle)), math.sin(math.radians(angle))]


def test_metrics_by_hand(circle: Callable[..., Rows], data_set: Callable[..., RetrievalData]) -> None:
    # Three queries at angle 0 over 12 passages at 1, 2, ... 12 degrees: passage i has rank i + 1.
    data = data_set([f"d{i}" for i in range(12)], [[0], [3], [11]])
    report = evaluate_embeddings(circle(0, 0, 0), circle(*range(1, 13)), data, num_resamples=0)
    assert report.value("P@1", "en") == pytest.approx(1 / 3)
    assert report.value("P@5", "en") == pytest.approx(2 / 3)
    assert report.value("P@10", "en") == pytest.approx(2 / 3)
    assert report.value("MRR@10", "en") == pytest.approx((1 + 1 / 4 + 0) / 3)
    assert report.value("nDCG@10", "en") == pytest.approx((1 + 1 / math.log2(5) + 0) / 3)


def test_ndcg_includes_all_positives_and_grades(
    circle: Callable[..., Rows], data_set: Callable[..., RetrievalData]
) -> None:
    data = data_set([f"d{i}" for i in range(12)], [[0, 2]])
    graded = RetrievalData("toy", data.passages, data.queries, {"q0": {"p0": 1, "p2": 3, "p5": 0}})
    report = evaluate_embeddings(circle(0), circle(*range(1, 13)), graded, num_resamples=0)
    best = 3 / math.log2(2) + 1 / math.log2(3)
    assert report.value("nDCG@10", "en") == pytest.approx((1 / math.log2(2) + 3 / math.log2(4)) / best)


def test_fewer_candidates_than_the_cutoff(circle: Callable[..., Rows], data_set: Callable[..., RetrievalData]) -> None:
    report = evaluate_embeddings(circle(0), circle(1, 2, 3), data_set(["a", "b", "c"], [[2]]), num_resamples=0)
    assert report.value("P@1", "en") == 0
    assert report.value("P@5", "en") == report.value("P@10", "en") == 1
    assert report.value("MRR@10", "en") == pytest.approx(1 / 3)


def test_metrics_equal_plain_loops(random_data: Callable[..., tuple[RetrievalData, Rows, Rows]]) -> None:
    for seed in range(5):
        data, queries, passages = random_data(seed)
        ranking = rank(queries, passages, data)
        values = measure(ranking, data.qrels)
        for i, rows in enumerate(ranking.rows):
            hits = [place for place, row in enumerate(rows, 1) if data.qrels[f"q{i}"].get(f"p{row}", 0) > 0]
            ideal = sum(1 / math.log2(place + 1) for place in range(1, len(data.qrels[f"q{i}"]) + 1))
            expected = [
                float(any(place <= 1 for place in hits)),
                float(any(place <= 5 for place in hits)),
                float(bool(hits)),
                1 / hits[0] if hits else 0,
                sum(1 / math.log2(place + 1) for place in hits) / ideal,
            ]
            np.testing.assert_allclose(values[:, i], expected, err_msg=f"seed {seed}, query {i}")


def test_averages_weight_languages_equally(circle: Callable[..., Rows], data_set: Callable[..., RetrievalData]) -> None:
    # Correct: en 1 of 1, de 1 of 3, th 0 of 2.
    languages = ["en", "de", "de", "de", "th", "th"]
    data = data_set(["a", "b"], [[0], [0], [1], [1], [1], [1]], languages)
    queries = circle(0, 0, 0, 0, 0, 0)
    report = evaluate_embeddings(queries, circle(1, 2), data, trained_languages=["th", "en", "fr"], num_resamples=0)
    assert report.languages == ("en", "th", "de")
    assert report.num_queries == {"en": 1, "th": 2, "de": 3}
    assert report.average("P@1", "trained").value == pytest.approx(1 / 2)
    assert report.average("P@1", "untrained").value == pytest.approx(1 / 3)
    assert report.average("P@1").value == pytest.approx((1 + 1 / 3 + 0) / 3)
    unknown = evaluate_embeddings(queries, circle(1, 2), data, num_resamples=0)
    assert set(unknown.averages["P@1"]) == {Average.ALL}
    with pytest.raises(ValueError, match="over: expected one of all, got 'trained'"):
        unknown.average("P@1", "trained")


def test_intervals_contain_the_value_and_repeat_with_the_seed(
    random_data: Callable[..., tuple[RetrievalData, Rows, Rows]],
) -> None:
    data, queries, passages = random_data(0)
    first = evaluate_embeddings(queries, passages, data, num_resamples=200, seed=5)
    assert first == evaluate_embeddings(queries, passages, data, num_resamples=200, seed=5)
    assert first != evaluate_embeddings(queries, passages, data, num_resamples=200, seed=6)
    for metric in METRICS:
        for language in first.languages:
            estimate = first.estimate(metric, language)
            assert estimate.interval is not None
            assert estimate.interval[0] <= estimate.value <= estimate.interval[1]


def test_the_interval_of_a_language_depends_only_on_its_questions(
    random_data: Callable[..., tuple[RetrievalData, Rows, Rows]],
) -> None:
    data, queries, passages = random_data(4)
    german = [i for i, q in enumerate(data.queries) if q.language == "de"]
    among_others = evaluate_embeddings(queries, passages, data, num_resamples=100)
    alone = evaluate_embeddings(queries[german], passages, data.select(languages=["de"]), num_resamples=100)
    assert among_others.estimate("MRR@10", "de") == alone.estimate("MRR@10", "de")


def test_translations_of_a_question_are_not_independent(circle: Callable[..., Rows]) -> None:
    # Two reports: one with a parallel id for all translations of a question, one with an id for each query.
    rng = np.random.default_rng(1)
    passages = tuple(Passage(f"p{i}", "text", f"d{i}") for i in range(30))
    angles = rng.permutation(30) * 3.0
    correct = rng.integers(0, 2, 60)

    def build(parallel: Callable[[int, str], str]) -> Report:
        queries = tuple(Query(f"q{i}-{x}", "?", x, parallel(i, x)) for i in range(60) for x in ("en", "de", "th", "vi"))
        rows = [int(q.id[1:].split("-")[0]) for q in queries]
        qrels = {q.id: {f"p{(row + 1 - correct[row]) % 30}": 1} for q, row in zip(queries, rows, strict=True)}
        data = RetrievalData("toy", passages, queries, qrels)
        return evaluate_embeddings(circle(*(angles[row % 30] for row in rows)), circle(*angles), data)

    def width(report: Report) -> float:
        low, high = report.average("P@1").interval or (0, 0)
        return high - low

    together, apart = build(lambda i, _: f"q{i}"), build(lambda i, x: f"q{i}-{x}")
    assert together.average("P@1").value == apart.average("P@1").value
    assert width(together) == pytest.approx(2 * width(apart), rel=0.25)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 9}, "k: expected at least 10"),
        ({"num_resamples": -1}, "num_resamples: expected 0 or more, got -1"),
        ({"trained_languages": "en"}, "trained_languages: expected a list"),
        ({"level": "book"}, "level: expected one of 'passage', .*got 'book'"),
    ],
)
def test_arguments_out_of_range(
    arguments: dict[str, object], message: str, random_data: Callable[..., tuple[RetrievalData, Rows, Rows]]
) -> None:
    data, queries, passages = random_data(0)
    with pytest.raises(ValueError, match=message):
        evaluate_embeddings(queries, passages, data, **arguments)  # type: ignore[arg-type]


def test_rows_must_match_the_data(random_data: Callable[..., tuple[RetrievalData, Rows, Rows]]) -> None:
    data, queries, passages = random_data(0)
    with pytest.raises(ValueError, match=r"query_embeddings: expected shape \(40, d\).*got \(39, 3\)"):
        evaluate_embeddings(queries[1:], passages, data)
    with pytest.raises(ValueError, match=r"candidate_embeddings: expected shape \(60, d\).*got \(61, 3\)"):
        evaluate_embeddings(queries, np.concatenate([passages, passages[:1]]), data)
    with pytest.raises(ValueError, match="has no query to evaluate"):
        evaluate_embeddings(queries[:0], passages, data.select(split="dev"))


class Encoder:
    """Replaces relkt.encoders: the last number in a text is its angle."""

    def __init__(self) -> None:
        self.queries: list[str] = []
        self.passages: list[str] = []

    def encode_queries(self, model: object, texts: list[str], **options: object) -> Rows:
        self.queries += texts
        return self._encode(model, texts, **options)

    def encode_passages(self, model: object, texts: list[str], **options: object) -> Rows:
        self.passages += texts
        return self._encode(model, texts, **options)

    @staticmethod
    def _encode(model: object, texts: list[str], *, batch_size: int, progress: Callable[[int], None] | None) -> Rows:
        assert model == "model"
        assert batch_size == 7
        if progress is not None:
            progress(len(texts))
        return np.array([unit(float(text.split()[-1])) for text in texts], dtype=np.float32)


@pytest.fixture
def encoder(monkeypatch: pytest.MonkeyPatch) -> Encoder:
    encoder = Encoder()
    stand_in = SimpleNamespace(encode_queries=encoder.encode_queries, encode_passages=encoder.encode_passages)
    monkeypatch.setitem(sys.modules, "relkt.encoders", stand_in)
    return encoder


def test_evaluate_encodes_each_selected_text_once(encoder: Encoder, data_set: Callable[..., RetrievalData]) -> None:
    data = data_set([f"d{i}" for i in range(20)], [[i] for i in range(6)], ["en", "de", "th"] * 2)
    queries = tuple(Query(q.id, q.text, q.language, q.parallel, Split.DEV) for q in data.queries[:3])
    data = RetrievalData("toy", data.passages, queries + data.queries[3:], data.qrels)
    seen: list[int] = []
    report = evaluate("model", data, languages=["de", "th"], batch_size=7, num_resamples=0, progress=seen.append)  # type: ignore[arg-type]
    assert encoder.queries == ["question 4", "question 5"]
    assert encoder.passages == [f"text {i}" for i in range(20)]
    assert sum(seen) == 22
    assert report.split is Split.TEST
    assert report.languages == ("de", "th")
    assert report.average("P@1").value == 1


def test_evaluate_checks_before_it_encodes(encoder: Encoder, data_set: Callable[..., RetrievalData]) -> None:
    data = data_set(["a"], [[0]])
    for arguments, message in (
        ({"split": "dev"}, "has no dev query"),
        ({"split": "exam"}, "split: expected one of 'train', 'dev', 'test', got 'exam'"),
        ({"languages": ["th"]}, "no query in th"),
        ({"languages": "th"}, "expected a list of language codes"),
        ({"batch_size": 0}, "batch_size: expected 1 or more"),
        ({"k": 3}, "k: expected at least 10"),
        ({"level": "book"}, "level: expected one of"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluate("model", data, **arguments)  # type: ignore[arg-type]
    assert encoder.queries == encoder.passages == []
