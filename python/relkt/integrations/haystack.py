"""A retriever for Haystack over :class:`relkt.Retriever`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from relkt.retrieval import RetrievedPassage, Retriever

try:
    from haystack import Document, component, default_from_dict, default_to_dict
except ImportError as error:
    raise ImportError(f"relkt's Haystack retriever needs {error.name}: pip install 'relkt[haystack]'") from error


@component  # type: ignore[untyped-decorator]  # of unknown type where Haystack is not installed
class RelktRetriever:
    """Passages of an index as Haystack documents, best first. It embeds the question itself, so it takes a text.

    A document has the passage's text and id, the cosine as its score, and as ``meta`` its title, document and language,
    where it has them, and its further columns.

    Filters are Haystack's, as far as the search knows them: comparisons by ``==`` and ``in``, alone or joined by
    ``AND``; others are refused.

    Args:
        index: The index file, as ``relkt index`` writes it, with its passages beside it. It is opened by
            :meth:`warm_up`, or by the first question.
        top_k: Documents for each question. Default 10.
        filters: Which passages are considered. Default: all.
        encoder: The encoder's name or folder, if it is elsewhere than when the index was built.
        device: Where it runs; default: a GPU if there is one.

    Raises:
        TypeError: If ``index`` is no path.
        ValueError: If ``top_k`` is below 1, or a filter is none that the search knows.
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
        """Open the index and load the encoder; nothing the second time.

        Raises:
            OSError: If a file cannot be opened, or the encoder not be found.
            IndexFileError: If the files are no index with its passages.
            ValueError: If the encoder is not the one that embedded the passages, or the index has no column that is
                filtered by.
        """
        if self._retriever is None:
            retriever = Retriever.open(self.index, encoder=self.encoder, device=self.device)
            retriever.passages.mask(self._where)
            _ = retriever.encoder
            self._retriever = retriever

    def to_dict(self) -> dict[str, Any]:
        """What :meth:`from_dict`, and a pipeline's YAML, makes the same component from."""
        made: dict[str, Any] = default_to_dict(
            self, index=self.index, top_k=self.top_k, filters=self.filters, encoder=self.encoder, device=self.device
        )
        return made

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> RelktRetriever:
        """The component that :meth:`to_dict` was called of."""
        made: RelktRetriever = default_from_dict(cls, data)
        return made

    @component.output_types(documents=list[Document])  # type: ignore[untyped-decorator]
    def run(self, query: str, top_k: int | None = None, filters: dict[str, Any] | None = None) -> dict[str, Any]:
        """Search.

        Args:
            query: A question, in any language.
            top_k: As for the component; default: its own.
            filters: Instead of the component's; default: those.

        Returns:
            ``{"documents": [...]}``, best first.

        Raises:
            ValueError: If the question is blank, ``top_k`` is below 1, or a filter is none that the search knows.
        """
        where = self._where if filters is None else as_where(filters)
        self.warm_up()
        assert self._retriever is not None
        hits = self._retriever.search(query, self.top_k if top_k is None else top_k, where=where)
        return {"documents": [_document(hit) for hit in hits]}


def as_where(filters: Mapping[str, Any] | None) -> dict[str, list[Any]]:
    """Haystack's filters as those of :meth:`relkt.Retriever.search`.

    Args:
        filters: Comparisons by ``==`` and ``in`` of ``id`` or of fields of ``meta`` (``"meta.language"``, or
            ``"language"``), joined by ``AND``. None or empty: no condition.

    Returns:
        Column -> its wanted values; where two conditions are on one column, those that meet both.

    Raises:
        ValueError: If there is another operator, or something is missing.
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
        "filters: expected comparisons by '==' or 'in' (of a list), alone or joined by 'AND', "
        f"got {dict(filters)!r}: the search knows no others"
    )


def _document(hit: RetrievedPassage) -> Document:
    passage = hit.passage
    own = {"title": passage.title, "document": passage.document, "language": passage.language}
    named = {name: value for name, value in own.items() if value is not None}
    return Document(id=passage.id, content=passage.text, meta={**named, **passage.fields}, score=hit.score)
