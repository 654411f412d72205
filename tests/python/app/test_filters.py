"""The columns that the page offers as filters."""

from __future__ import annotations

import pytest

pytest.importorskip(
    "relkt.app", reason="its packages are not installed: pip install 'relkt[app]'", exc_type=ImportError
)

from relkt.app.filters import filters_of
from relkt.app.service import SearchService
from relkt.retrieval import PassageStore
from relkt.retrieval.sources import from_passages
from relkt.retrieval.store import read_store


def store(*records: dict[str, object]) -> PassageStore:
    return read_store(from_passages([{"text": "text", **record} for record in records]))


def test_language_comes_first(service: SearchService) -> None:
    assert [filter_.column for filter_ in service.filters] == ["language", "document", "year"]
    assert service.filters[0].values == {"en": 8, "ar": 2, "de": 1, "ja": 1}
    assert service.filters[2].values == {2021: 5, 2020: 4, 2019: 3}


def test_columns_with_one_or_unique_values_are_not_filters() -> None:
    passages = store(
        {"id": "1", "language": "en", "topic": "a", "url": "u1", "tags": ["x"], "number": 1},
        {"id": "2", "language": "en", "topic": "a", "url": "u2", "tags": [], "number": 2},
        {"id": "3", "language": "en", "topic": None, "url": "u3", "tags": ["y"], "number": 3},
    )
    assert [(filter_.column, filter_.values) for filter_ in filters_of(passages)] == [("topic", {"a": 2, None: 1})]
    assert filters_of(passages, max_values=1) == []
