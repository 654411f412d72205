"""The distinct texts of a data set's columns, checked."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from relkt.data.pairs import Exclusions, PairSet, PairSetBuilder

logger = logging.getLogger(__name__)


class WithoutNegatives(str, Enum):
    """Treatment of anchors without negatives when a ``RemineCallback`` is made."""

    LEAVE_OUT = "leave-out"
    """Leave their pairs out of the data set; a warning counts them."""
    ERROR = "error"
    """Raise a ValueError."""


@dataclass(frozen=True, eq=False)
class MiningPairs:
    """Queries and passages to mine, and the exclusions.

    Attributes:
        anchor: Name of the column of anchors.
        positive: Name of the column of positives.
        distinct: The distinct anchors as queries; the distinct positives and texts of the corpus as passages.
        exclusions: The passages that are excluded for each query.
        query_of: (rows,) int64, the query of each row of the data set.
    """

    anchor: str
    positive: str
    distinct: PairSet
    exclusions: Exclusions
    query_of: NDArray[np.int64]

    @classmethod
    def read(
        cls,
        pairs: Dataset,
        corpus: Sequence[str] | Dataset | None,
        *,
        anchor_column: str | None,
        positive_column: str | None,
        document_column: str | None,
        exclude_column: str | None,
    ) -> MiningPairs:
        """Reads and checks the columns, with the arguments and errors of ``RemineCallback``."""
        anchor, positive = _columns(pairs, anchor_column, positive_column)
        distinct, query_of = _distinct(pairs, corpus, anchor, positive, document_column)
        exclusions = distinct.exclusions()
        if exclude_column is not None:
            _check_column("pairs", pairs, exclude_column, "exclude_column")
            exclusions = _excluding(exclusions, distinct, query_of, pairs[exclude_column][:], exclude_column)
        return cls(anchor, positive, distinct, exclusions, query_of)

    def rows_with_negatives(self, missing: NDArray[np.int64], policy: WithoutNegatives) -> NDArray[np.int64]:
        """The rows of the data set whose query has negatives.

        Args:
            missing: The queries without negatives, ascending.
            policy: The treatment of these queries.

        Raises:
            ValueError: If a query has no negative and ``policy`` says to raise an error, or if no query has a negative.
        """
        kept = np.flatnonzero(~np.isin(self.query_of, missing))
        if not len(missing):
            return kept
        queries, rows = self.distinct.queries, len(self.query_of)
        first = int(np.flatnonzero(self.query_of == missing[0])[0])
        message = (
            f"{len(missing)} of {len(queries)} anchors have no negative under these conditions, the first in row "
            f"{first}: {queries[missing[0]]!r}"
        )
        if policy is WithoutNegatives.ERROR or not len(kept):
            raise ValueError(f"pairs: {message}; loosen the conditions, or give a corpus")
        logger.warning("%s; %d of %d pairs are left out", message, rows - len(kept), rows)
        return kept


def _distinct(
    pairs: Dataset, corpus: Sequence[str] | Dataset | None, anchor: str, positive: str, document_column: str | None
) -> tuple[PairSet, NDArray[np.int64]]:
    builder = PairSetBuilder()
    anchors, positives = (_texts("pairs", pairs[column][:], column) for column in (anchor, positive))
    documents = _documents("pairs", pairs, document_column)
    query_of = np.empty(len(pairs), dtype=np.int64)
    for row, (query, passage, document) in enumerate(zip(anchors, positives, documents, strict=True)):
        where = f"pairs, row {row}"
        query_of[row] = builder.add_query(query, where=where)
        builder.add_pair(int(query_of[row]), builder.add_passage(passage, document=document, where=where))
    if isinstance(corpus, Dataset):
        _check_column("corpus", corpus, positive, "positive_column")
        further = _texts("corpus", corpus[positive][:], positive)
        documents = _documents("corpus", corpus, document_column)
    elif isinstance(corpus, str):
        raise TypeError("corpus: expected texts, or a datasets.Dataset of them, got one text")
    else:
        further = _texts("corpus", () if corpus is None else corpus)
        documents = [None] * len(further)
    for row, (passage, document) in enumerate(zip(further, documents, strict=True)):
        builder.add_passage(passage, document=document, where=f"corpus, row {row}")
    return builder.build(), query_of


def _excluding(
    exclusions: Exclusions, distinct: PairSet, query_of: NDArray[np.int64], lists: Iterable[Any], column: str
) -> Exclusions:
    """Excludes the passages whose text is in one of the query's lists."""
    row_of = {text: row for row, text in enumerate(distinct.passages)}
    exclude = [set(rows) for rows in exclusions.exclude or [[]] * len(distinct.queries)]
    for row, (query, texts) in enumerate(zip(query_of.tolist(), lists, strict=True)):
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise TypeError(f"pairs, row {row}: expected a list of texts in {column!r}, got {texts!r}")
        exclude[query].update(row_of[text] for text in texts if text in row_of)
    return exclusions._replace(exclude=[sorted(rows) for rows in exclude])


def _columns(pairs: Dataset, anchor: str | None, positive: str | None) -> tuple[str, str]:
    names = pairs.column_names
    if len(names) < 2:
        raise ValueError(f"pairs: expected at least two columns of texts, got {names}")
    if not len(pairs):
        raise ValueError("pairs: expected at least one row, got none")
    anchor, positive = anchor or names[0], positive or names[1]
    for argument, column in (("anchor_column", anchor), ("positive_column", positive)):
        _check_column("pairs", pairs, column, argument)
    if anchor == positive:
        raise ValueError(f"anchor_column, positive_column: expected two columns, got {anchor!r} for both")
    return anchor, positive


def _check_column(name: str, dataset: Dataset, column: str, argument: str) -> None:
    if column not in dataset.column_names:
        raise ValueError(f"{argument}: expected a column of {name} ({', '.join(dataset.column_names)}), got {column!r}")


def _texts(name: str, values: Iterable[Any], column: str | None = None) -> list[str]:
    texts = list(values)
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            place = "" if column is None else f" in {column!r}"
            raise TypeError(f"{name}, row {row}: expected a text{place}, got {text!r}")
    return texts


def _documents(name: str, dataset: Dataset, column: str | None) -> list[str | None]:
    if column is None:
        return [None] * len(dataset)
    _check_column(name, dataset, column, "document_column")
    documents: list[str | None] = []
    for row, document in enumerate(dataset[column][:]):
        if document is not None and (isinstance(document, bool) or not isinstance(document, str | int)):
            raise TypeError(f"{name}, row {row}: expected a text or an integer in {column!r}, got {document!r}")
        documents.append(None if document is None else str(document))
    return documents
