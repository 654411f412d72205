"""A retriever for Haystack over :class:`relkt.Retriever`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from relkt.retrieval import RetrievedPassage, Retriever

try:
    from haystack import Document, component, default_from_dict, default_to_dict
except ImportError as error:
    raise ImportError(f"relkt's Haystack retriever requires {error.name}: pip install 'relkt[haystack]'") from error


@component  # type: ignore[untyped-decorator]  # untyped if Haystack is not installed
class RelktRetriever:
    """Retrieves passages of an index as Haystack documents, best first. It takes a question as text and embeds it.

    A document has the passage's text and id, and the cosine as its score. Its ``meta`` has the passage's title,
    document and language, where they exist, and further columns.

    Filters have Haystack's format. They may consist of comparisons by ``==`` and ``in``, joined by ``AND``; other
    filters are an error.

    Args:
        index: The index file from ``relkt index``, with its passages file in the same folder. It is opened by
            :meth:`warm_up`, or by the first question.
        top_k: Number of documents per question. Default 10.
        filters: Filter of the passages. Default: all passages.
        encoder: Name or folder of the encoder, if this name or folder changed since the index was built.
        device: Device of the encoder; default: a GPU if there is one.

    Raises:
        TypeError: If ``index`` is not a path.
        ValueError: If ``top_k`` is below 1, or a filter is not supported.
    """

    def __init__(
        self,
        index: str | os.PathLike[str],
        *,
        top_k: int = 10,
        filters: dict[str, Any] | None = None,
        encoder: str | None = None,
        device: str | None = None,
    ) -> None:
        if isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1:
            raise ValueError(f"top_k: expected an integer of at least 1, got {top_k!r}")
        self.index = os.fspath(index)
        self.top_k = top_k
        self.filters = filters
        self.encoder = encoder
        self.device = device
        self._where = as_where(filters)
        self._retriever: Retriever | None = None

    def warm_up(self) -> None:
        """Opens the index and loads the encoder; has no effect when repeated.

        Raises:
            OSError: If a file cannot be opened, or the encoder cannot be found.
            IndexFileError: If the files are not an index with its passages.
            ValueError: If another encoder embedded the passages, or the index lacks a column of the filter.
        """
        if self._retriever is None:
            retriever = Retriever.open(self.index, encoder=self.encoder, device=self.device)
            retriever.passages.mask(self._where)
            _ = retriever.encoder
            self._retriever = retriever

    def to_dict(self) -> dict[str, Any]:
        """Serializes the component for :meth:`from_dict` and a pipeline's YAML."""
        made: dict[str, Any] = default_to_dict(
            self, index=self.index, top_k=self.top_k, filters=self.filters, encoder=self.encoder, device=self.device
        )
        return made

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> RelktRetriever:
        """Makes a component from the result of :meth:`to_dict`."""
        made: RelktRetriever = default_from_dict(cls, data)
        return made

    @component.output_types(documents=list[Document])  # type: ignore[untyped-decorator]
    def run(self, query: str, top_k: int | None = None, filters: dict[str, Any] | None = None) -> dict[str, Any]:
        """Searches.

        Args:
            query: A question, in any language that the encoder supports.
            top_k: Number of documents; default: the component's.
            filters: Filter of the passages; default: the component's.

        Returns:
            ``{"documents": [...]}``, best first.

        Raises:
            ValueError: If the question is blank, ``top_k`` is below 1, or a filter is not supported.
        """
        where = self._where if filters is None else as_where(filters)
        self.warm_up()
        assert self._retriever is not None
        hits = self._retriever.search(query, self.top_k if top_k is None else top_k, where=where)
        return {"documents": [_document(hit) for hit in hits]}


def as_where(filters: Mapping[str, Any] | None) -> dict[str, list[Any]]:
    """Converts Haystack's filters to those of :meth:`relkt.Retriever.search`.

    Args:
        filters: Comparisons of ``id`` or of fields of ``meta`` (``"meta.language"``, or ``"language"``) by ``==`` and
            ``in``, joined by ``AND``. None or empty for no filter.

    Returns:
        Column -> allowed values; for several conditions on a column, the values that meet all of them.

    Raises:
        ValueError: If there is another operator, or a part of a comparison is missing.
    """
    where: dict[str, list[Any]] = {}
    for condition in _conditions(filters) if filters else ():
        column = condition["field"].removeprefix("meta.")
        wanted = list(condition["value"]) if condition["operator"] == "in" else [condition["value"]]
        where[column] = [value for value in where.get(column, wanted) if value in wanted]
    return where


def _conditions(filters: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    operator = filters.get("operator")
    if operator == "AND" and isinstance(filters.get("conditions"), list):
        return [condition for inner in filters["conditions"] for condition in _conditions(inner)]
    is_comparison = isinstance(filters.get("field"), str) and "value" in filters
    if is_comparison and (operator == "==" or (operator == "in" and isinstance(filters["value"], list))):
        return [filters]
    raise ValueError(
        f"filters: expected comparisons by '==' or 'in' (of a list), alone or joined by 'AND', got {dict(filters)!r}"
    )


def _document(hit: RetrievedPassage) -> Document:
    passage = hit.passage
    own = {"title": passage.title, "document": passage.document, "language": passage.language}
    named = {name: value for name, value in own.items() if value is not None}
    return Document(id=passage.id, content=passage.text, meta={**named, **passage.fields}, score=hit.score)
