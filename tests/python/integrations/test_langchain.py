"""The retriever for LangChain."""

from __future__ import annotations

import asyncio

import pytest

import relkt

pytest.importorskip("langchain_core", reason="needs langchain-core: pip install 'relkt[langchain]'")

from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda

from relkt.integrations.langchain import RelktRetriever


def test_documents_are_the_passages_found(retriever: relkt.Retriever) -> None:
    lang = RelktRetriever(retriever=retriever, k=3)
    assert isinstance(lang, BaseRetriever)
    hits = retriever.search("w1 w2", 3)
    assert lang.invoke("w1 w2") == [
        Document(
            id=hit.passage.id,
            page_content=hit.passage.text,
            metadata={
                **({"language": hit.passage.language} if hit.passage.language else {}),
                **({"title": hit.passage.title} if hit.passage.title else {}),
                "year": hit.passage.fields["year"],
                "relevance_score": hit.score,
            },
        )
        for hit in hits
    ]
    assert lang.invoke("w1 w2")[0].metadata.keys() >= {"year", "relevance_score"}


def test_a_question_may_have_its_own_k_and_filter(retriever: relkt.Retriever) -> None:
    lang = RelktRetriever(retriever=retriever, where={"language": "de"})
    found = lang.invoke("w1 w2", k=2)
    assert [document.metadata["language"] for document in found] == ["de", "de"]
    found = lang.invoke("w1 w2", where={"language": "en", "year": [2001, 2002]})
    assert {(d.metadata["language"], d.metadata["year"]) for d in found} <= {("en", 2001), ("en", 2002)}
    assert len(found) > 0


def test_in_a_chain_in_batches_and_asynchronously(retriever: relkt.Retriever) -> None:
    lang = RelktRetriever(retriever=retriever, k=2)
    chain = lang | RunnableLambda(lambda documents: [document.id for document in documents])
    expected = [[hit.passage.id for hit in hits] for hits in retriever.search(["w1", "w2 w3"], 2)]
    assert chain.batch(["w1", "w2 w3"]) == expected
    assert asyncio.run(chain.ainvoke("w1")) == expected[0]


def test_argument_errors(retriever: relkt.Retriever) -> None:
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        RelktRetriever(retriever=retriever, k=0)
    with pytest.raises(ValueError, match=r"where: expected a column among id, text, .*, got 'nothing'"):
        RelktRetriever(retriever=retriever, where={"nothing": 1})
    with pytest.raises(ValueError, match="Retriever"):
        RelktRetriever(retriever="wiki.relkt")
    scored = relkt.Retriever(
        relkt.Index(retriever.index.embeddings([0])), [{"text": "x", "relevance_score": 1.0}], retriever.encoder
    )
    with pytest.raises(ValueError, match="expected passages without a column 'relevance_score'"):
        RelktRetriever(retriever=scored)
