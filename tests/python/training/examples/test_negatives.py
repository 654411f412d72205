"""Training examples and the negatives of the warm-up."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from relkt.data.types import Level, Passage, Query, RetrievalData, Split
from relkt.training.examples import TrainingSet
from relkt.training.examples.negatives import bm25_negatives, random_negatives


def data(queries: list[Query], qrels: dict[str, dict[str, int]]) -> RetrievalData:
    passages = (
        Passage("p0", "the river runs to the sea", document="rivers"),
        Passage("p1", "a river bank of sand", document="rivers"),
        Passage("p2", "the bank lends money", document="money"),
        Passage("p3", "money and more money in the bank", document="money"),
        Passage("p4", "the river runs to the sea", document="copies"),  # the text of p0
        Passage("p5", "cats sleep all day", document="cats"),
        Passage("p6", "dogs bark at night", document="dogs"),
    )
    return RetrievalData("handmade", passages, tuple(queries), qrels)


def query(id: str, text: str, language: str = "en", parallel: str | None = None, split: Split = Split.TRAIN) -> Query:
    return Query(id, text, language, parallel or id, split)


def test_pairs_positives_and_blocked_rows_of_passages() -> None:
    examples = TrainingSet(
        data([query("q", "where is sand"), query("r", "both?")], {"q": {"p1": 1}, "r": {"p5": 2, "p0": 1, "p6": 0}}),
        languages=("en",),
        level=Level.PASSAGE,
    )
    assert examples.pairs.tolist() == [[0, 1], [1, 0], [1, 5]]
    assert examples.groups.tolist() == [0, 0, 1, 1, 2, 3, 4]
    assert examples.positives(1) == (0, 5)
    assert examples.blocked(0).tolist() == [0, 1]  # the positive and its document
    assert examples.blocked(1).tolist() == [0, 1, 4, 5]  # and the copy of p0's text; p6 was judged not relevant


def test_pairs_and_blocked_rows_of_documents() -> None:
    examples = TrainingSet(data([query("q", "sand")], {"q": {"p1": 1}}), languages=("en",), level=Level.DOCUMENT)
    assert examples.candidates.ids == ("rivers", "money", "copies", "cats", "dogs")
    assert examples.pairs.tolist() == [[0, 0]]
    assert examples.blocked(0).tolist() == [0]


def test_only_training_questions_in_the_languages_trained() -> None:
    questions = [
        query("a", "sand", "en"),
        query("b", "Sand", "de"),
        query("c", "sable", "fr"),
        query("d", "sand", "en", split=Split.DEV),
    ]
    examples = TrainingSet(
        data(questions, {q.id: {"p1": 1} for q in questions}), languages=("en", "de"), level=Level.PASSAGE
    )
    assert [q.id for q in examples.queries] == ["a", "b"]


def test_a_language_without_training_questions_is_an_error() -> None:
    questions = [query("a", "sand", "en"), query("b", "Sand", "de", split=Split.DEV)]
    with pytest.raises(ValueError, match="data set 'handmade' has no query in de in the train split"):
        TrainingSet(data(questions, {q.id: {"p1": 1} for q in questions}), languages=("en", "de"), level=Level.PASSAGE)


def test_the_query_is_the_english_translation_if_there_is_one() -> None:
    questions = [
        query("en", "who lends money", "en", parallel="x"),
        query("de", "river sea", "de", parallel="x"),
        query("alone", "river sea", "de"),
    ]
    examples = TrainingSet(
        data(questions, {q.id: {"p5": 1} for q in questions}), languages=("de",), level=Level.PASSAGE
    )
    assert examples.english == ("who lends money", "river sea")
    triplets = bm25_negatives(examples, num_negatives=2, seed=0)
    negatives = {q: triplets[triplets[:, 0] == q, 2].tolist() for q in (0, 1)}
    assert negatives[0] == [2, 3]  # both words, then one
    assert sorted(negatives[1]) == [0, 4]  # both words; the same text, in any order


def test_ranks_follow_bm25_and_blocked_rows_do_not_take_a_rank() -> None:
    # Best for "money bank" are p3, p2 and then p1; p2 is the positive, so all of its document is blocked.
    examples = TrainingSet(data([query("q", "money bank")], {"q": {"p2": 1}}), languages=("en",), level=Level.PASSAGE)
    triplets = bm25_negatives(examples, num_negatives=3, seed=0)
    assert triplets.shape == (3, 3)
    assert triplets[:, :2].tolist() == [[0, 2]] * 3
    assert triplets[0, 2] == 1
    assert not {2, 3} & set(triplets[:, 2].tolist())
    assert len(set(triplets[:, 2].tolist())) == 3


def test_a_passage_with_the_text_of_a_positive_is_not_a_negative() -> None:
    examples = TrainingSet(data([query("q", "river sea")], {"q": {"p0": 1}}), languages=("en",), level=Level.PASSAGE)
    negatives = bm25_negatives(examples, num_negatives=10, seed=0)[:, 2].tolist()
    assert sorted(negatives) == [2, 3, 5, 6]  # all remaining candidates


def test_every_positive_has_the_negatives_of_its_question() -> None:
    examples = TrainingSet(
        data([query("q", "river money")], {"q": {"p0": 1, "p5": 1}}), languages=("en",), level=Level.PASSAGE
    )
    triplets = bm25_negatives(examples, num_negatives=2, seed=0).tolist()
    assert [row[:2] for row in triplets] == [[0, 0], [0, 0], [0, 5], [0, 5]]
    assert [row[2] for row in triplets[:2]] == [row[2] for row in triplets[2:]]


def test_questions_without_a_known_word_get_different_random_negatives() -> None:
    questions = [query(f"q{i}", f"แม่น้ำ {i}", "th") for i in range(20)]
    examples = TrainingSet(
        data(questions, {q.id: {"p5": 1} for q in questions}), languages=("th",), level=Level.PASSAGE
    )
    triplets = bm25_negatives(examples, num_negatives=1, seed=0)
    assert len(set(triplets[:, 2].tolist())) > 2
    assert np.array_equal(triplets, bm25_negatives(examples, num_negatives=1, seed=0))
    assert not np.array_equal(triplets, bm25_negatives(examples, num_negatives=1, seed=1))


def test_random_negatives_are_allowed_distinct_and_new_each_epoch() -> None:
    questions = [query(f"q{i}", "river") for i in range(20)]
    examples = TrainingSet(
        data(questions, {q.id: {"p0": 1} for q in questions}), languages=("en",), level=Level.PASSAGE
    )
    first = random_negatives(examples, num_negatives=3, seed=0, epoch=2)
    assert first.shape == (60, 3)
    assert set(first[:, 2].tolist()) == {2, 3, 5, 6}
    assert all(len(set(first[first[:, 0] == q, 2].tolist())) == 3 for q in range(20))
    assert np.array_equal(first, random_negatives(examples, num_negatives=3, seed=0, epoch=2))
    assert not np.array_equal(first, random_negatives(examples, num_negatives=3, seed=0, epoch=3))


def test_indexing_writes_no_debug_logs(caplog: pytest.LogCaptureFixture) -> None:
    examples = TrainingSet(data([query("q", "river")], {"q": {"p0": 1}}), languages=("en",), level=Level.PASSAGE)
    with caplog.at_level(logging.DEBUG), caplog.at_level(logging.DEBUG, logger="bm25s"):
        bm25_negatives(examples, num_negatives=1, seed=0)
    assert [r for r in caplog.records if r.name.startswith("bm25s") and r.levelno < logging.WARNING] == []
