"""A retriever for LangChain over :class:`relkt.Retriever`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from typing_extensions import override

from relkt.retrieval import RetrievedPassage, Retriever

try:
    from langchain_core.callbacks import CallbackManagerForRetrieverRun
    from langchain_core.documents import Document
    from langchain_core.retrievers import BaseRetriever
    from pydantic import ConfigDict, Field, field_validator
except ImportError as error:
    raise ImportError(f"relkt's LangChain retriever requires {error.name}: pip install 'relkt[langchain]'") from error

SCORE = "relevance_score"
"""Key of the cosine in a document's metadata; LangChain's rerankers use the same key."""


class RelktRetriever(BaseRetriever):  # type: ignore[misc]  # untyped if LangChain is not installed
    """Retrieves passages of an index as LangChain documents, best first.

    A document has the passage's text and id. Its metadata has the passage's title, document and language, where they
    exist, further columns, and the cosine as ``relevance_score``.

    ``k`` and ``where`` may also be passed for a single question: ``retriever.invoke(question, k=3)``.

    Args:
        retriever: The index, with its passages and encoder (a keyword argument).
        k: Number of documents per question. Default 10.
        where: Filter of the passages, as in :meth:`relkt.Retriever.search`. Default: all passages.

    Raises:
        ValueError: If ``k`` is below 1, the index lacks a column of ``where``, or a column of the index is named
            ``relevance_score``.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    retriever: Retriever
    k: int = Field(default=10, ge=1)
    where: Mapping[str, Any] | None = None

    @field_validator("retriever")
    @classmethod
    def _score_has_a_place(cls, retriever: Retriever) -> Retriever:
        if SCORE in retriever.passages.columns:
            raise ValueError(f"retriever: expected passages without a column {SCORE!r}, which is the key of the score")
        return retriever

    @override
    def model_post_init(self, context: Any, /) -> None:
        super().model_post_init(context)
        if self.where:
            self.retriever.passages.mask(self.where)  # fails before the first question

    @override
    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,
        k: int | None = None,
        where: Mapping[str, Any] | None = None,
    ) -> list[Document]:
        del run_manager
        hits = self.retriever.search(query, self.k if k is None else k, where=self.where if where is None else where)
        return [_document(hit) for hit in hits]


def _document(hit: RetrievedPassage) -> Document:
    passage = hit.passage
    own = {"title": passage.title, "document": passage.document, "language": passage.language}
    named = {name: value for name, value in own.items() if value is not None}
    return Document(id=passage.id, page_content=passage.text, metadata={**named, **passage.fields, SCORE: hit.score})
