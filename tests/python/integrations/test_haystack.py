"""The retriever for Haystack."""

from __future__ import annotations

import inspect
import os
from typing import Any

import pytest

import relkt

os.environ.setdefault("HAYSTACK_TELEMETRY_ENABLED", "False")
pytest.importorskip("haystack", reason="needs haystack-ai: pip install 'relkt[haystack]'")

from haystack import Document, Pipeline

from relkt.integrations.haystack import RelktRetriever, as_where


@pytest.fixture
def component(retriever: relkt.Retriever, model_folder: str) -> Any:
    return RelktRetriever(retriever.path, top_k=3, encoder=model_folder, device="cpu")


def test_documents_are_the_passages_found(component: Any, retriever: relkt.Retriever) -> None:
    component.warm_up()
    found = component.run(query="w1 w2")["documents"]
    hits = retriever.search("w1 w2", 3)
    assert [d.id for d in found] == [hit.passage.id for hit in hits]
    assert [d.content for d in found] == [hit.passage.text for hit in hits]
    assert [d.score for d in found] == [hit.score for hit in hits]
    assert all(isinstance(d, Document) for d in found)
    by_id = {p.id: p for p in retriever.passages}
    own = ("title", "document", "language")
    for d in found:
        passage = by_id[d.id]
        named = {name: getattr(passage, name) for name in own if getattr(passage, name) is not None}
        assert d.meta == {**named, **passage.fields}


def test_a_pipeline_can_be_serialized(component: Any, retriever: relkt.Retriever) -> None:
    pipeline = Pipeline()
    pipeline.add_component("retriever", component)
    # Haystack 3 requires a list of the modules that a pipeline may use.
    trusted = {"allowed_modules": ["relkt.integrations.haystack"]}
    known = inspect.signature(Pipeline.loads).parameters
    again = Pipeline.loads(pipeline.dumps(), **(trusted if "allowed_modules" in known else {}))
    assert again.get_component("retriever").to_dict() == component.to_dict()
    result = again.run({"retriever": {"query": "w3", "top_k": 2}})
    assert [d.id for d in result["retriever"]["documents"]] == [hit.passage.id for hit in retriever.search("w3", 2)]


def test_filters(component: Any, retriever: relkt.Retriever) -> None:
    filters = {
        "operator": "AND",
        "conditions": [
            {"field": "meta.language", "operator": "==", "value": "de"},
            {"field": "year", "operator": "in", "value": [2001, 2002, 2003]},
            {"field": "meta.year", "operator": "in", "value": [2002, 2003]},
        ],
    }
    found = component.run(query="w1", top_k=100, filters=filters)["documents"]
    expected = retriever.search("w1", 100, where={"language": "de", "year": [2002, 2003]})
    assert [d.id for d in found] == [hit.passage.id for hit in expected]
    assert len(found) > 0
    own = RelktRetriever(component.index, filters=filters["conditions"][0], encoder=component.encoder)
    assert {d.meta["language"] for d in own.run(query="w1")["documents"]} == {"de"}
    assert as_where({}) == as_where(None) == {}


@pytest.mark.parametrize(
    "filters",
    [
        {"field": "meta.year", "operator": ">", "value": 2000},
        {"field": "meta.year", "operator": "in", "value": 2000},
        {"operator": "OR", "conditions": [{"field": "meta.year", "operator": "==", "value": 2000}]},
        {"field": "meta.year", "operator": "=="},
        {"language": "de"},
    ],
)
def test_other_filters_are_refused(filters: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"filters: expected comparisons by '==' or 'in' .* got \{"):
        RelktRetriever("wiki.relkt", filters=filters)


def test_argument_errors(component: Any, tmp_path: Any) -> None:
    with pytest.raises(ValueError, match="top_k: expected an integer of at least 1, got 0"):
        RelktRetriever("wiki.relkt", top_k=0)
    with pytest.raises(ValueError, match="k: expected an integer of at least 1, got 0"):
        component.run(query="w1", top_k=0)
    with pytest.raises(FileNotFoundError):
        RelktRetriever(tmp_path / "none.relkt").warm_up()
    unknown = {"field": "meta.nothing", "operator": "==", "value": 1}
    with pytest.raises(ValueError, match="where: expected a column among"):
        RelktRetriever(component.index, filters=unknown, encoder=component.encoder).warm_up()
