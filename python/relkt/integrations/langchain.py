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
    raise ImportError(f"relkt's LangChain retriever needs {error.name}: pip install 'relkt[langchain]'") from error

SCORE = "relevance_score"
"""The key of the cosine in a document's metadata, under the name that LangChain's rerankers give to theirs."""


class RelktRetriever(BaseRetriever):  # type: ignore[misc]  # of unknown type where LangChain is not installed
    """Passages of an index as LangChain documents, best first.

    A document has the passage's text and id, and as metadata its title, document and language, where it has them, its
    further columns, and its cosine under ``relevance_score``.

    ``k`` and ``where`` may be given for a single question, too: ``retriever.invoke(question, k=3)``.

    Args:
        retriever: The index, its passages and their encoder; by name.
        k: Documents for each question. Default 10.
        where: Which passages are considered, as in :meth:`relkt.Retriever.search`. Default: all.

    Raises:
        ValueError: If ``k`` is below 1, the index has no such column as in ``where``, or one that is called
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
            raise ValueError(f"retriever: its passages have a column {SCORE!r}, where the score is to be put")
        return retriever

    @override
    def model_post_init(self, context: Any, /) -> None:
        super().model_post_init(context)
        if self.where:
            self.retriever.passages.mask(self.where)  # before the first question

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
