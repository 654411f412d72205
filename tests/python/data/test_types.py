"""The data model's checks and its three levels of candidates."""

from __future__ import annotations

import pytest

from relkt.data import DataError, Level, Passage, Query, RetrievalData, Split


def build(**changes: object) -> RetrievalData:
    fields = {
        "name": "toy",
        "passages": (
            Passage("a1", "one", "a"),
            Passage("b1", "two", "b"),
            Passage("a2", "three", "a"),
        ),
        "queries": (Query("q1-en", "?", "en", "q1"), Query("q1-de", "?!", "de", "q1", Split.TEST)),
        "qrels": {"q1-en": {"a2": 1, "b1": 0}, "q1-de": {"a1": 1, "a2": 2}},
    }
    return RetrievalData(**(fields | changes))  # type: ignore[arg-type]


def test_candidates_at_each_level() -> None:
    data = build()
    assert data.candidates().ids == ("a1", "b1", "a2")
    assert data.candidates(Level.BEST_PASSAGE) == data.candidates(Level.PASSAGE)
    documents = data.candidates("document")
    assert documents.ids == ("a", "b")
    assert documents.texts == ("one\n\nthree", "two")


def test_the_relevance_of_a_document_is_the_highest_of_its_passages() -> None:
    data = build()
    assert data.candidate_qrels("passage") == {"q1-en": {"a2": 1, "b1": 0}, "q1-de": {"a1": 1, "a2": 2}}
    assert data.candidate_qrels("document") == {"q1-en": {"a": 1, "b": 0}, "q1-de": {"a": 2}}
    falling = build(qrels={"q1-en": {"a1": 3, "a2": 1}, "q1-de": {"a1": 1}})
    assert falling.candidate_qrels("best-passage")["q1-en"] == {"a": 3}


def test_positives_have_a_relevance_above_zero() -> None:
    assert build().positives("q1-en") == ("a2",)
    assert build().positives("q1-de") == ("a1", "a2")


def test_select_keeps_all_passages() -> None:
    translations = {"de": {"a1": "eins"}}
    selected = build(translations=translations).select(split="test", languages=["de"])
    assert selected.translations == translations
    assert [q.id for q in selected.queries] == ["q1-de"]
    assert list(selected.qrels) == ["q1-de"]
    assert len(selected.passages) == 3
    with pytest.raises(ValueError, match="no query in fr"):
        build().select(languages=["fr"])
    with pytest.raises(ValueError, match="split: expected one of 'train', 'dev', 'test', got 'all'"):
        build().select(split="all")
    with pytest.raises(ValueError, match="level: expected one of 'passage'"):
        build().candidates("book")


def test_languages_are_sorted_with_english_first() -> None:
    assert build().languages == ("en", "de")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"passages": ()}, "at least one passage"),
        ({"passages": (Passage("a1", "one", "a"), Passage("a1", "two", "a"))}, "passage id 'a1' appears twice"),
        ({"passages": (Passage("a1", " \n", "a"),)}, "passage 'a1' has an empty text"),
        ({"queries": (Query("q", "?", "en", "q"), Query("q", "?", "de", "q"))}, "query id 'q' appears twice"),
        ({"qrels": {"q1-en": {"a1": 1}}}, "query 'q1-de' has no passage with a relevance above 0"),
        ({"qrels": {"q1-en": {"a1": 0}, "q1-de": {"a1": 1}}}, "query 'q1-en' has no passage"),
        ({"qrels": {"x": {"a1": 1}}}, "name the query 'x'"),
        ({"qrels": {"q1-en": {"x": 1}}}, "name the passage 'x'"),
        ({"translations": {"de": {"x": "eins"}}}, "translations into 'de' name the passage 'x'"),
        ({"translations": {"de": {"a1": " "}}}, "the translation of passage 'a1' into 'de' is empty"),
    ],
)
def test_inconsistent_data_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        build(**changes)
