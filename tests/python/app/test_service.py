"""Questions to answers, and what is refused."""

from __future__ import annotations

import threading

import pytest

pytest.importorskip(
    "relkt.app", reason="its packages are not installed: pip install 'relkt[app]'", exc_type=ImportError
)

from relkt.app.filters import filters_of
from relkt.app.limits import BusyError, Limits, Turns
from relkt.app.service import SearchService
from relkt.retrieval import PassageStore, Retriever
from relkt.retrieval.sources import from_passages
from relkt.retrieval.store import read_store


def store(*records: dict[str, object]) -> PassageStore:
    return read_store(from_passages([{"text": "text", **record} for record in records]))


def test_filters(service: SearchService) -> None:
    assert [filter_.column for filter_ in service.filters] == ["language", "document", "year"]
    assert service.filters[0].values == {"en": 8, "ar": 2, "de": 1, "ja": 1}
    assert service.filters[2].values == {2021: 5, 2020: 4, 2019: 3}


def test_columns_without_a_choice_are_no_filters() -> None:
    passages = store(
        {"id": "1", "language": "en", "topic": "a", "url": "u1", "tags": ["x"], "number": 1},
        {"id": "2", "language": "en", "topic": "a", "url": "u2", "tags": [], "number": 2},
        {"id": "3", "language": "en", "topic": None, "url": "u3", "tags": ["y"], "number": 3},
    )
    assert [(filter_.column, filter_.values) for filter_ in filters_of(passages)] == [("topic", {"a": 2, None: 1})]
    assert filters_of(passages, max_values=1) == []


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
def test_refused(
    strict: SearchService, arguments: tuple[str, int], where: dict[str, object] | None, message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        strict.search(*arguments, where=where)  # type: ignore[arg-type]


def test_a_line_of_limited_length() -> None:
    turns = Turns(waiting=1)
    entered, leave, order = threading.Event(), threading.Event(), list[str]()

    def first() -> None:
        with turns.turn():
            entered.set()
            leave.wait(10)
            order.append("first")

    def second() -> None:
        with turns.turn():
            order.append("second")

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    assert entered.wait(10)
    threads[1].start()
    while turns._places._value:  # until the second one waits
        pass
    with pytest.raises(BusyError, match="1 questions are waiting"), turns.turn():
        order.append("third")
    leave.set()
    for thread in threads:
        thread.join(10)
    assert order == ["first", "second"]


def test_a_place_is_free_again_after_an_error() -> None:
    turns = Turns(waiting=1)
    for _ in range(3):
        with pytest.raises(KeyError), turns.turn():
            raise KeyError
    with turns.turn():
        pass


@pytest.mark.parametrize("name", ["question_characters", "results", "body_bytes", "waiting", "connections"])
def test_limits_are_positive(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: expected at least 1, got 0"):
        Limits(**{name: 0})
