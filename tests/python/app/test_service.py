"""Answers, and the questions that are refused."""

from __future__ import annotations

import pytest

pytest.importorskip(
    "relkt.app", reason="its packages are not installed: pip install 'relkt[app]'", exc_type=ImportError
)

from relkt.app.service import SearchService
from relkt.retrieval import Retriever


def test_answer(service: SearchService, retriever: Retriever) -> None:
    question = "ทำไมน้ำแข็งลอยน้ำ"
    answer = service.search(f"  {question}\n", 3)
    assert list(answer.results) == retriever.search(question, 3)
    assert answer.results[0].passage.id == "ice-1"
    assert (answer.question, answer.language.code, answer.candidates) == (question, "th", 12)
    assert not answer.best
    assert answer.seconds.highlighting is None
    marked = service.highlight(answer)
    assert marked.results == answer.results
    assert len(marked.best) == 3
    assert (marked.seconds.encoding, marked.seconds.search) == (answer.seconds.encoding, answer.seconds.search)
    assert min(marked.seconds.encoding, marked.seconds.search, marked.seconds.highlighting or 0) > 0


def test_where(service: SearchService) -> None:
    found = service.search("coffee", 10, where={"language": ["ar", "ja"], "year": 2021}).results
    assert {result.passage.id for result in found} == {"qahwa-1", "ramen-1"}
    assert service.search("coffee", 10, where={"language": "fr"}).results == []
    assert service.highlight(service.search("coffee", 10, where={"language": "fr"})).best == []


@pytest.mark.parametrize(
    ("arguments", "where", "message"),
    [
        ((" \n", 1), None, "question: expected a text, got a blank one"),
        (("x" * 41, 1), None, "question: expected at most 40 characters, got 41"),
        (("x", 0), None, "k: expected 1 to 3, got 0"),
        (("x", 4), None, "k: expected 1 to 3, got 4"),
        (("x", 1), {"author": "me"}, "where: expected a column among .*, got 'author'"),
        (("x", 1), {"year": "2020"}, "where: expected a value of type int64 for 'year', got '2020'"),
        (("x", 1), {"year": 10**30}, "where: "),
    ],
)
def test_invalid_questions_are_refused(
    strict: SearchService, arguments: tuple[str, int], where: dict[str, object] | None, message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        strict.search(*arguments, where=where)  # type: ignore[arg-type]
