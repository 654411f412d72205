"""Pairs of a query and a positive, for mining: distinct queries, distinct passages, and the pairs between them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from relkt.data.parsing import shorten
from relkt.data.types import DataError


class Exclusions(NamedTuple):
    """Passages that must not be negatives, in the form that :func:`relkt.mine` takes.

    Attributes:
        positives: Rows of the positives of each query.
        groups: (n,) int64, number of each passage's document; None without documents.
        exclude: Further excluded rows of each query; None if no query has any.
    """

    positives: list[list[int]]
    groups: NDArray[np.int64] | None
    exclude: list[list[int]] | None


@dataclass(frozen=True)
class PairSet:
    """Distinct queries, distinct passages, and the pairs between them. Made by :class:`PairSetBuilder`.

    A query or passage is identified by its id if it has one, otherwise by its text.

    Attributes:
        queries: Texts of the queries.
        query_ids: Ids of the queries; None for a query without an id.
        passages: Texts of the passages, positives and others.
        passage_ids: Ids of the passages; None for a passage without an id.
        documents: Documents of each passage; a passage without an id may be in several.
        pairs: (p, 2) int64, query row and passage row of each distinct pair, in the order given.
        repeated: Number of repeated pairs left out of ``pairs``.
    """

    queries: Sequence[str]
    query_ids: Sequence[str | None]
    passages: Sequence[str]
    passage_ids: Sequence[str | None]
    documents: Sequence[Sequence[str]]
    pairs: NDArray[np.int64]
    repeated: int = 0

    def by_query(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Sorts the pairs by query, keeping the given order within a query.

        Returns:
            (p,) int64, row numbers of ``pairs``, sorted by query.
            (q + 1,) int64, offsets into the first array: its entries for query i start at offset i and end before
            offset i + 1.
        """
        order = np.argsort(self.pairs[:, 0], kind="stable")
        return order, np.searchsorted(self.pairs[order, 0], np.arange(len(self.queries) + 1))

    def exclusions(self, *, same_document: bool = True) -> Exclusions:
        """Returns the passages that must not be negatives of each query.

        For a query, these are its positives, passages with the same text as a positive or as the query itself, and the
        other passages of its positives' documents.

        Args:
            same_document: True to exclude the other passages of a positive's document.
        """
        positives: list[list[int]] = [[] for _ in self.queries]
        for query, passage in self.pairs.tolist():
            positives[query].append(passage)
        exclude = self._twins(positives)
        groups = None
        if same_document and any(self.documents):
            if all(len(documents) <= 1 for documents in self.documents):
                groups = self._groups()
            else:
                for rows, more in zip(exclude, self._in_same_documents(positives), strict=True):
                    rows.extend(more)
        if not any(exclude):
            return Exclusions(positives, groups, None)
        return Exclusions(positives, groups, [sorted(set(rows)) for rows in exclude])

    def _twins(self, positives: list[list[int]]) -> list[list[int]]:
        rows_of: dict[str, list[int]] = {}
        for row, text in enumerate(self.passages):
            rows_of.setdefault(text, []).append(row)
        found = []
        for query, own in zip(self.queries, positives, strict=True):
            twins = list(rows_of.get(query, ()))
            for row in own:
                same = rows_of[self.passages[row]]
                if len(same) > 1:
                    twins += [twin for twin in same if twin != row]
            found.append(twins)
        return found

    def _groups(self) -> NDArray[np.int64]:
        numbers: dict[str, int] = {}
        for documents in self.documents:
            for document in documents:
                numbers.setdefault(document, len(numbers))
        # A passage without a document is a group of its own.
        return np.array(
            [numbers[own[0]] if own else len(numbers) + row for row, own in enumerate(self.documents)], dtype=np.int64
        )

    def _in_same_documents(self, positives: list[list[int]]) -> Iterable[list[int]]:
        rows_in: dict[str, list[int]] = {}
        for row, documents in enumerate(self.documents):
            for document in documents:
                rows_in.setdefault(document, []).append(row)
        for own in positives:
            seen = dict.fromkeys(document for row in own for document in self.documents[row])
            yield [row for document in seen for row in rows_in[document]]


class PairSetBuilder:
    """Collects queries, passages and pairs, and checks that they are consistent."""

    def __init__(self) -> None:
        self._queries: list[str] = []
        self._query_ids: list[str | None] = []
        self._query_rows: dict[tuple[bool, str], int] = {}
        self._passages: list[str] = []
        self._passage_ids: list[str | None] = []
        self._passage_rows: dict[str, int] = {}
        self._row_of_text: dict[str, int] = {}
        self._documents: list[tuple[str, ...]] = []
        self._pairs: dict[tuple[int, int], None] = {}
        self._repeated = 0

    def add_passage(self, text: str, *, id: str | None = None, document: str | None = None, where: str) -> int:
        """Adds a passage if it is new.

        Args:
            text: Text of the passage.
            id: Id of the passage. Without an id, the first passage with the same text is reused, if any.
            document: Document of the passage.
            where: File and place, for errors.

        Returns:
            Row of the passage.

        Raises:
            DataError: If the text is blank, or another passage has the same id.
        """
        _check_text(text, "passage", where)
        row = self._row_of_text.get(text) if id is None else self._passage_rows.get(id)
        if row is None:
            row = len(self._passages)
            self._passages.append(text)
            self._passage_ids.append(id)
            self._documents.append(())
            self._row_of_text.setdefault(text, row)
            if id is not None:
                self._passage_rows[id] = row
        elif self._passages[row] != text:
            raise DataError(
                f"{where}: passage id {id!r} has the text {shorten(text)}, but {shorten(self._passages[row])} before"
            )
        if document is not None and document not in self._documents[row]:
            self._documents[row] = (*self._documents[row], document)
        return row

    def add_query(self, text: str, *, id: str | None = None, where: str) -> int:
        """Adds a query if it is new; arguments, result and errors are as for :meth:`add_passage`."""
        _check_text(text, "query", where)
        key = (False, text) if id is None else (True, id)
        row = self._query_rows.setdefault(key, len(self._queries))
        if row == len(self._queries):
            self._queries.append(text)
            self._query_ids.append(id)
        elif self._queries[row] != text:
            raise DataError(
                f"{where}: query id {id!r} has the text {shorten(text)}, but {shorten(self._queries[row])} before"
            )
        return row

    def add_pair(self, query: int, passage: int) -> None:
        """Makes a passage a positive of a query; both are given by their rows."""
        self._repeated += (query, passage) in self._pairs
        self._pairs[query, passage] = None

    def build(self) -> PairSet:
        """Returns the pairs collected so far."""
        return PairSet(
            queries=self._queries,
            query_ids=self._query_ids,
            passages=self._passages,
            passage_ids=self._passage_ids,
            documents=self._documents,
            pairs=np.array(list(self._pairs), dtype=np.int64).reshape(-1, 2),
            repeated=self._repeated,
        )


def _check_text(text: str, kind: str, where: str) -> None:
    if not text.strip():
        raise DataError(f"{where}: expected the text of a {kind}, got {text!r}")
