"""Ranking at each level, measures, intervals and exports, against values worked out by hand and plain loops."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import ir_measures
import numpy as np
import pytest
from numpy.typing import NDArray

from relkt.data import Level, Passage, Query, RetrievalData, Split
from relkt.evaluation import (
    METRICS,
    Average,
    Estimate,
    Ranker,
    Report,
    average_precision,
    evaluate,
    evaluate_embeddings,
    measure,
    rank,
)
from relkt.evaluation.bootstrap import bootstrap_macro_mean, paired_bootstrap_p, resampled_means
from relkt.evaluation.ranking import strictly_falling

Rows = NDArray[np.float32]


def unit(angle: float) -> list[float]:
    return [math.cos(math.radians(angle)), math.sin(math.radians(angle))]


def circle(*angles: float) -> Rows:
    """Unit vectors in the plane: the cosine of two falls with the angle between them."""
    return np.array([unit(a) for a in angles], dtype=np.float32)


def data_set(documents: list[str], positives: list[list[int]], languages: list[str] | None = None) -> RetrievalData:
    passages = tuple(Passage(f"p{i}", f"text {i}", d) for i, d in enumerate(documents))
    languages = languages or ["en"] * len(positives)
    queries = tuple(Query(f"q{i}", f"question {i}", x, f"q{i}", Split.TEST) for i, x in enumerate(languages))
    qrels = {f"q{i}": {f"p{row}": 1 for row in rows} for i, rows in enumerate(positives)}
    return RetrievalData("toy", passages, queries, qrels)


def random_data(
    seed: int, queries: int = 40, passages: int = 60, documents: int = 25
) -> tuple[RetrievalData, Rows, Rows]:
    rng = np.random.default_rng(seed)
    names = [f"d{rng.integers(documents)}" for _ in range(passages)]
    positives = [sorted(rng.choice(passages, rng.integers(1, 4), replace=False).tolist()) for _ in range(queries)]
    languages = [("en", "de", "th")[i % 3] for i in range(queries)]
    data = data_set(names, positives, languages)
    # Small integers: scores repeat, so ties are everywhere.
    return (
        data,
        rng.integers(1, 4, (queries, 3)).astype(np.float32),
        rng.integers(1, 4, (passages, 3)).astype(np.float32),
    )


def test_measures_by_hand() -> None:
    # Three queries at angle 0 over 12 passages at 1, 2, ... 12 degrees: passage i has rank i + 1.
    data = data_set([f"d{i}" for i in range(12)], [[0], [3], [11]])
    report = evaluate_embeddings(circle(0, 0, 0), circle(*range(1, 13)), data, num_resamples=0)
    assert report.value("P@1", "en") == pytest.approx(1 / 3)
    assert report.value("P@5", "en") == pytest.approx(2 / 3)
    assert report.value("P@10", "en") == pytest.approx(2 / 3)
    assert report.value("MRR@10", "en") == pytest.approx((1 + 1 / 4 + 0) / 3)
    assert report.value("nDCG@10", "en") == pytest.approx((1 + 1 / math.log2(5) + 0) / 3)


def test_ndcg_weighs_all_positives_and_grades() -> None:
    data = data_set([f"d{i}" for i in range(12)], [[0, 2]])
    graded = RetrievalData("toy", data.passages, data.queries, {"q0": {"p0": 1, "p2": 3, "p5": 0}})
    report = evaluate_embeddings(circle(0), circle(*range(1, 13)), graded, num_resamples=0)
    best = 3 / math.log2(2) + 1 / math.log2(3)
    assert report.value("nDCG@10", "en") == pytest.approx((1 / math.log2(2) + 3 / math.log2(4)) / best)


def test_average_precision_by_hand() -> None:
    # 30 passages at 1, 2, ... 30 degrees: passage i has rank i + 1, and what is below the tenth counts too.
    data = data_set([f"d{i}" for i in range(30)], [[0, 29], [3], [1, 4, 14]], ["en", "en", "th"])
    report = evaluate_embeddings(circle(0, 0, 0), circle(*range(1, 31)), data, full_ranking=True, num_resamples=0)
    english, thai = ((1 + 2 / 30) / 2 + 1 / 4) / 2, (1 / 2 + 2 / 5 + 3 / 15) / 3
    assert report.value("mAP", "en") == pytest.approx(english, abs=1e-12)
    assert report.value("mAP", "th") == pytest.approx(thai, abs=1e-12)
    assert report.average("mAP").value == pytest.approx((english + thai) / 2, abs=1e-12)
    assert tuple(report.estimates) == ("mAP", *METRICS)
    assert Report.from_json(report.to_json()) == report
    assert "| mAP | P@1 |" in report.to_markdown()


def test_average_precision_ranks_equal_scores_by_row() -> None:
    data = data_set(["a", "b", "c", "d"], [[1], [2, 3]])
    report = evaluate_embeddings(circle(0, 0), circle(5, 5, 5, 5), data, full_ranking=True, num_resamples=0)
    assert report.value("mAP", "en") == pytest.approx((1 / 2 + (1 / 3 + 2 / 4) / 2) / 2, abs=1e-12)


@pytest.mark.parametrize("level", list(Level))
def test_average_precision_is_that_of_ir_measures_whatever_the_block(
    level: Level, monkeypatch: pytest.MonkeyPatch
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


def test_fewer_candidates_than_the_cutoff() -> None:
    report = evaluate_embeddings(circle(0), circle(1, 2, 3), data_set(["a", "b", "c"], [[2]]), num_resamples=0)
    assert report.value("P@1", "en") == 0
    assert report.value("P@5", "en") == report.value("P@10", "en") == 1
    assert report.value("MRR@10", "en") == pytest.approx(1 / 3)


def test_measures_equal_a_plain_loop_over_the_ranking() -> None:
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


def test_equal_scores_stand_in_the_order_of_rows_in_every_measure() -> None:
    # All 12 passages have the same score; ids that sort against the rows would win in ir-measures' own tie-breaks.
    same = np.ones((12, 2), dtype=np.float32)
    for positive, place in ((0, 1), (1, 2), (9, 10), (10, None)):
        data = data_set([f"d{i}" for i in range(12)], [[positive]])
        report = evaluate_embeddings(same[:1], same, data, num_resamples=0)
        assert report.value("MRR@10", "en") == pytest.approx(1 / place if place else 0)
        assert report.value("P@1", "en") == (place == 1)
        assert report.value("P@10", "en") == (place is not None)


def rank_documents_slowly(data: RetrievalData, queries: Rows, passages: Rows, k: int) -> list[list[str]]:
    """Every document by its best passage, with float64 cosines rounded to float32; ties by the best passage's row."""
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
def test_documents_are_ranked_by_their_best_passage_exactly(seed: int, documents: int) -> None:
    data, queries, passages = random_data(seed, documents=documents)
    ranking = rank(queries, passages, data, level=Level.BEST_PASSAGE)
    assert len(ranking.candidate_ids) == len({p.document for p in data.passages})
    found = [[ranking.candidate_ids[row] for row in rows] for rows in ranking.rows]
    assert found == rank_documents_slowly(data, queries, passages, 10)
    assert (np.diff(ranking.scores, axis=1) <= 0).all()


def test_a_document_with_very_many_good_passages_does_not_crowd_out_the_others() -> None:
    # 200 passages of one document come before every other; depth has to grow until 11 documents are met.
    documents = ["big"] * 200 + [f"d{i}" for i in range(15)]
    data = data_set(documents, [[204], [0]])
    angles = [i / 1000 for i in range(200)] + [1 + i for i in range(15)]
    ranking = rank(circle(0, 0), circle(*angles), data, level="best-passage")
    assert [ranking.candidate_ids[row] for row in ranking.rows[0]] == ["big", *(f"d{i}" for i in range(9))]
    report = evaluate_embeddings(circle(0, 0), circle(*angles), data, level="best-passage", num_resamples=0)
    assert report.value("MRR@10", "en") == pytest.approx((1 / 6 + 1) / 2)
    assert report.num_candidates == 16


def test_document_level_ranks_joined_documents() -> None:
    data = data_set(["a", "b", "a"], [[2]])
    report = evaluate_embeddings(circle(0), circle(5, 1), data, level="document", num_resamples=0)
    assert report.num_candidates == 2
    assert report.value("MRR@10", "en") == pytest.approx(1 / 2)


def test_averages_count_every_language_the_same() -> None:
    # en: 1 of 1 right, de: 1 of 3, th: 0 of 2.
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


def test_interval_of_a_share_is_the_binomial_one() -> None:
    # 200 questions, 60 % right: the bootstrap of a mean of zeros and ones has the binomial's spread.
    sums = np.zeros((1, 1, 200))
    sums[0, 0, :120] = 1
    low, high = bootstrap_macro_mean(sums, np.ones((1, 200)), num_resamples=4000, seed=0)[0]
    half = 1.96 * math.sqrt(0.6 * 0.4 / 200)
    assert low == pytest.approx(0.6 - half, abs=0.01)
    assert high == pytest.approx(0.6 + half, abs=0.01)


def test_translations_are_resampled_together() -> None:
    # Four languages with the same outcome for each question: the average is exactly as uncertain as one language.
    rng = np.random.default_rng(3)
    one = rng.integers(0, 2, 100).astype(np.float64)
    single = bootstrap_macro_mean(one[None, None], np.ones((1, 100)), num_resamples=500, seed=1)
    four = bootstrap_macro_mean(np.tile(one, (1, 4, 1)), np.ones((4, 100)), num_resamples=500, seed=1)
    np.testing.assert_allclose(four, single)
    # Four languages with questions of their own are four times as much evidence.
    apart = np.zeros((1, 4, 400))
    counts = np.zeros((4, 400))
    for language in range(4):
        apart[0, language, language * 100 : (language + 1) * 100] = one
        counts[language, language * 100 : (language + 1) * 100] = 1
    independent = bootstrap_macro_mean(apart, counts, num_resamples=2000, seed=1)
    assert np.ptp(independent) == pytest.approx(np.ptp(single) / 2, rel=0.15)


def test_a_resample_without_a_language_is_left_out() -> None:
    # Twelve languages with one question each, of their own: hardly any resample has them all.
    values = np.eye(12)[None] * 0.5
    assert np.isnan(bootstrap_macro_mean(values, np.eye(12), num_resamples=20, seed=0)).all()
    two = bootstrap_macro_mean(np.eye(2)[None] * [[0.2], [0.6]], np.eye(2), num_resamples=200, seed=0)
    np.testing.assert_allclose(two, [[0.4, 0.4]])
    data = data_set(["a", "b"], [[0]] * 12, [f"l{i}" for i in range(12)])
    report = evaluate_embeddings(circle(*[0] * 12), circle(1, 2), data, num_resamples=20)
    assert report.average("P@1") == Estimate(1.0, None)
    assert report.estimate("P@1", "l0") == Estimate(1.0, (1.0, 1.0))


def test_p_values_by_hand() -> None:
    # |d* - d| is 0, .5, .5 and .6; three of the four are at least |d| = .5. The fifth resample does not count.
    resampled = np.array([[0.5, 1.0, 0.0, -0.1, np.nan]])
    assert paired_bootstrap_p(np.array([0.5]), resampled) == pytest.approx([(1 + 3) / (1 + 4)])
    # The sign of a difference does not matter.
    assert paired_bootstrap_p(np.array([-0.5]), -resampled) == pytest.approx([0.8])
    # The same difference for every question: it is certain, as far as so many resamples can say.
    assert paired_bootstrap_p(np.array([0.2]), np.full((1, 99), 0.1 + 0.1)) == pytest.approx([0.01])
    # No difference at all: certainly none.
    assert paired_bootstrap_p(np.array([0.0]), np.zeros((1, 99))) == pytest.approx([1.0])
    # Equal but for rounding counts as equal.
    assert paired_bootstrap_p(np.array([0.3]), np.array([[0.1 + 0.2 + 0.3]])) == pytest.approx([1.0])
    assert np.isnan(paired_bootstrap_p(np.array([0.3]), np.full((1, 5), np.nan))).all()


def test_a_paired_test_of_two_questions() -> None:
    # One system answers both questions, the other one the second only: d = .5. The four equally likely resamples have
    # d* = 1, .5, .5 and 0, so half of them are at least .5 from d.
    resampled = resampled_means(np.array([[[1.0, 0.0]]]), np.ones((1, 2)), num_resamples=20_000, seed=0)[:, :, 0]
    assert sorted(set(resampled[0].tolist())) == [0.0, 0.5, 1.0]
    assert paired_bootstrap_p(np.array([0.5]), resampled)[0] == pytest.approx(0.5, abs=0.01)


def test_p_values_are_uniform_where_there_is_no_difference() -> None:
    # Differences drawn from -1, 0 and 1 with mean 0: a true test rejects at level p in a share p of the data sets.
    rng = np.random.default_rng(0)
    differences = rng.integers(-1, 2, (400, 1, 200)).astype(np.float64)
    resampled = resampled_means(differences, np.ones((1, 200)), num_resamples=300, seed=1)[:, :, 0]
    p_values = paired_bootstrap_p(differences.mean(axis=(1, 2)), resampled)
    for level in (0.1, 0.5):
        assert (p_values <= level).mean() == pytest.approx(level, abs=0.05)


def test_the_same_questions_are_drawn_for_any_values() -> None:
    rng = np.random.default_rng(4)
    first, second = rng.random((2, 3, 1, 30))
    counts = np.ones((1, 30))
    together = resampled_means(first - second, counts, num_resamples=50, seed=2)
    apart = [resampled_means(values, counts, num_resamples=50, seed=2) for values in (first, second)]
    np.testing.assert_allclose(together, apart[0] - apart[1], atol=1e-12)


def test_intervals_do_not_depend_on_the_memory_used(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    sums = rng.random((2, 3, 50))
    at_once = bootstrap_macro_mean(sums, np.ones((3, 50)), num_resamples=300, seed=7)
    monkeypatch.setattr("relkt.evaluation.bootstrap._WEIGHTS_AT_ONCE", 333)
    np.testing.assert_allclose(bootstrap_macro_mean(sums, np.ones((3, 50)), num_resamples=300, seed=7), at_once)


def test_intervals_hold_the_value_and_repeat_with_the_seed() -> None:
    data, queries, passages = random_data(0)
    first = evaluate_embeddings(queries, passages, data, num_resamples=200, seed=5)
    assert first == evaluate_embeddings(queries, passages, data, num_resamples=200, seed=5)
    assert first != evaluate_embeddings(queries, passages, data, num_resamples=200, seed=6)
    for metric in METRICS:
        for language in first.languages:
            estimate = first.estimate(metric, language)
            assert estimate.interval is not None
            assert estimate.interval[0] <= estimate.value <= estimate.interval[1]


def test_a_language_s_interval_needs_only_its_own_questions() -> None:
    data, queries, passages = random_data(4)
    german = [i for i, q in enumerate(data.queries) if q.language == "de"]
    among_others = evaluate_embeddings(queries, passages, data, num_resamples=100)
    alone = evaluate_embeddings(queries[german], passages, data.select(languages=["de"]), num_resamples=100)
    assert among_others.estimate("MRR@10", "de") == alone.estimate("MRR@10", "de")


def test_a_parallel_question_keeps_the_averages_interval_wide() -> None:
    # The same report, with the translations' parallel ids and with an id of its own for each query.
    rng = np.random.default_rng(1)
    passages = tuple(Passage(f"p{i}", "text", f"d{i}") for i in range(30))
    angles = rng.permutation(30) * 3.0
    right = rng.integers(0, 2, 60)

    def build(parallel: Callable[[int, str], str]) -> Report:
        queries = tuple(Query(f"q{i}-{x}", "?", x, parallel(i, x)) for i in range(60) for x in ("en", "de", "th", "vi"))
        rows = [int(q.id[1:].split("-")[0]) for q in queries]
        qrels = {q.id: {f"p{(row + 1 - right[row]) % 30}": 1} for q, row in zip(queries, rows, strict=True)}
        data = RetrievalData("toy", passages, queries, qrels)
        return evaluate_embeddings(circle(*(angles[row % 30] for row in rows)), circle(*angles), data)

    def width(report: Report) -> float:
        low, high = report.average("P@1").interval or (0, 0)
        return high - low

    together, apart = build(lambda i, _: f"q{i}"), build(lambda i, x: f"q{i}-{x}")
    assert together.average("P@1").value == apart.average("P@1").value
    assert width(together) == pytest.approx(2 * width(apart), rel=0.25)


@pytest.fixture
def report() -> Report:
    data, queries, passages = random_data(2)
    return evaluate_embeddings(queries, passages, data, split="test", trained_languages=["en", "de"], num_resamples=50)


def test_json_gives_the_report_back(report: Report) -> None:
    again = Report.from_json(report.to_json())
    assert again == report
    assert again.split is Split.TEST
    assert again.languages == report.languages
    with pytest.raises(ValueError, match="holds no ranking"):
        again.write_run("unused")
    with pytest.raises(ValueError, match="expected the values of a report"):
        Report.from_json('{"data": "toy"}')


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


def test_strictly_falling_keeps_what_falls_already() -> None:
    scores = np.array([[0.9, 0.5, -0.1], [0.5, 0.5, 0.5], [0.0, 0.0, -0.0]], dtype=np.float32)
    out = strictly_falling(scores)
    assert (out[:, 1:] < out[:, :-1]).all()
    np.testing.assert_array_equal(out[0], scores[0])
    np.testing.assert_allclose(out, scores, atol=1e-6)


def test_markdown_has_a_row_for_each_language_and_average(report: Report) -> None:
    lines = report.to_markdown().splitlines()
    assert lines[0].startswith("toy, test queries, level passage, 60 candidates")
    assert lines[2] == "| language | queries | P@1 | P@5 | P@10 | MRR@10 | nDCG@10 |"
    assert [line.split(" |")[0] for line in lines[4:10]] == [
        "| en\\*",
        "| de\\*",
        "| th",
        "| **trained** (2)",
        "| **untrained** (1)",
        "| **all** (3)",
    ]
    assert report.estimate("P@1", "th").format() in lines[6]
    assert len({line.count("|") for line in lines[2:10]}) == 1


def test_estimates_are_printed_with_three_digits() -> None:
    assert Estimate(0.79444, (0.7, 0.8005)).format() == "0.794 [0.700, 0.800]"
    assert Estimate(0.79444, (0.7, 0.8005)).format(with_interval=False) == "0.794"
    assert Estimate(1.0).format() == "1.000"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 9}, "k: expected at least 10"),
        ({"num_resamples": -1}, "num_resamples: expected 0 or more, got -1"),
        ({"trained_languages": "en"}, "trained_languages: expected a list"),
        ({"level": "book"}, "level: expected one of 'passage', .*got 'book'"),
    ],
)
def test_arguments_out_of_range(arguments: dict[str, object], message: str) -> None:
    data, queries, passages = random_data(0)
    with pytest.raises(ValueError, match=message):
        evaluate_embeddings(queries, passages, data, **arguments)  # type: ignore[arg-type]


def test_rows_must_match_the_data() -> None:
    data, queries, passages = random_data(0)
    with pytest.raises(ValueError, match=r"query_embeddings: expected shape \(40, d\).*got \(39, 3\)"):
        evaluate_embeddings(queries[1:], passages, data)
    with pytest.raises(ValueError, match=r"candidate_embeddings: expected shape \(60, d\).*got \(61, 3\)"):
        evaluate_embeddings(queries, np.concatenate([passages, passages[:1]]), data)
    with pytest.raises(ValueError, match="has no query to evaluate"):
        evaluate_embeddings(queries[:0], passages, data.select(split="dev"))


def test_metrics_and_languages_that_were_not_measured(report: Report) -> None:
    with pytest.raises(ValueError, match=r"metric: expected one of P@1, .*got 'MAP'"):
        report.value("MAP", "en")
    with pytest.raises(ValueError, match="language: expected one of en, de, th, got 'fr'"):
        report.value("P@1", "fr")


class Encoder:
    """Stands in for relkt.encoders: a text's last number is its angle."""

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
        return circle(*(float(text.split()[-1]) for text in texts))


@pytest.fixture
def encoder(monkeypatch: pytest.MonkeyPatch) -> Encoder:
    encoder = Encoder()
    stand_in = SimpleNamespace(encode_queries=encoder.encode_queries, encode_passages=encoder.encode_passages)
    monkeypatch.setitem(sys.modules, "relkt.encoders", stand_in)
    return encoder


def test_evaluate_encodes_each_text_once_and_only_the_split_and_languages(encoder: Encoder) -> None:
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


def test_evaluate_checks_before_it_encodes(encoder: Encoder) -> None:
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
