"""Mined negatives as rows of texts, in the training formats of sentence-transformers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from importlib import import_module
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from relkt.data.pairs import PairSet

ROWS_AT_ONCE = 4096
"""Number of pairs or queries per table."""

SUFFIXES = (".parquet", ".jsonl")
"""Suffixes of output files."""


class OutputFormat(str, Enum):
    """Format of the rows, with the names of ``sentence_transformers.util.mine_hard_negatives``."""

    TRIPLET = "triplet"
    """anchor, positive, negative: a row for each pair and negative."""
    N_TUPLE = "n-tuple"
    """anchor, positive, negative_1, negative_2, ...: a row for each pair whose query has all its negatives."""
    LABELED_PAIR = "labeled-pair"
    """anchor, passage, label (1 or 0): a row for each positive and negative of a query."""
    LABELED_LIST = "labeled-list"
    """anchor, passages, labels: a row for each pair whose query has a negative."""


@dataclass(frozen=True, eq=False)
class MinedPairs:
    """The content of the rows.

    Attributes:
        pairs: The queries and passages.
        positive_scores: (p,) float32, the score of each pair.
        negatives: (q, n) int64, rows of passages, highest score first, then -1.
        scores: (q, n) float32.
    """

    pairs: PairSet
    positive_scores: NDArray[np.float32]
    negatives: NDArray[np.int64]
    scores: NDArray[np.float32]


def write_table(
    file: IO[bytes], mined: MinedPairs, kind: OutputFormat, *, scores: bool, ids: bool, parquet: bool
) -> int:
    """Writes all rows, a few thousand at a time.

    Args:
        file: The file.
        mined: The negatives.
        kind: Format of the rows.
        scores: Add cosines: a column ``scores`` with the positive's score first, or ``score`` instead of a label.
        ids: Add the ids of the texts, if they have ids.
        parquet: Write Parquet instead of JSON lines.

    Returns:
        The number of rows.
    """
    arrow = import_module("pyarrow")
    rows = 0
    tables = _Tables(arrow, mined, kind, scores, ids)
    if parquet:
        writer_of = import_module("pyarrow.parquet").ParquetWriter
        with writer_of(file, tables.schema) as writer:
            for table in tables:
                writer.write_table(table)
                rows += table.num_rows
        return rows
    for table in tables:
        for record in table.to_pylist():
            file.write(f"{json.dumps(record, ensure_ascii=False)}\n".encode())
        rows += table.num_rows
    return rows


class _Tables:
    """Arrow tables of a few thousand rows each."""

    def __init__(self, arrow: Any, mined: MinedPairs, kind: OutputFormat, scores: bool, ids: bool) -> None:
        self._arrow, self._mined, self._kind, self._scores = arrow, mined, kind, scores
        pairs = mined.pairs
        text = arrow.large_string()
        self._queries, self._passages = arrow.array(pairs.queries, text), arrow.array(pairs.passages, text)
        self._query_ids = self._passage_ids = None
        if ids and any(one is not None for one in pairs.query_ids):
            self._query_ids = arrow.array(pairs.query_ids, text)
        if ids and any(one is not None for one in pairs.passage_ids):
            self._passage_ids = arrow.array(pairs.passage_ids, text)
        self._make = {
            OutputFormat.TRIPLET: self._triplets,
            OutputFormat.N_TUPLE: self._tuples,
            OutputFormat.LABELED_PAIR: self._labeled_pairs,
            OutputFormat.LABELED_LIST: self._labeled_lists,
        }[kind]
        self._by_query, self._first = pairs.by_query()

    @property
    def schema(self) -> Any:
        return self._make(0, 0).schema

    def __iter__(self) -> Iterator[Any]:
        pairs = self._mined.pairs
        total = len(pairs.queries) if self._kind is OutputFormat.LABELED_PAIR else len(pairs.pairs)
        for start in range(0, total, ROWS_AT_ONCE):
            yield self._make(start, min(start + ROWS_AT_ONCE, total))

    def _triplets(self, start: int, stop: int) -> Any:
        pairs, negatives, found = self._of_pairs(start, stop)
        row, place = np.nonzero(found)
        scores = np.stack([self._mined.positive_scores[start:stop][row], self._negative_scores(start, stop)[found]], 1)
        passages = {"positive": pairs[row, 1], "negative": negatives[row, place]}
        return self._table(pairs[row, 0], passages, {"scores": self._lists(scores.reshape(-1), np.full(len(row), 2))})

    def _tuples(self, start: int, stop: int) -> Any:
        pairs, negatives, found = self._of_pairs(start, stop)
        row = np.flatnonzero(found.all(axis=1))
        passages = {"positive": pairs[row, 1]}
        passages |= {f"negative_{place + 1}": negatives[row, place] for place in range(negatives.shape[1])}
        scores = np.concatenate(
            [self._mined.positive_scores[start:stop][row, None], self._negative_scores(start, stop)[row]], axis=1
        )
        lists = self._lists(scores.reshape(-1), np.full(len(row), scores.shape[1]))
        return self._table(pairs[row, 0], passages, {"scores": lists})

    def _labeled_lists(self, start: int, stop: int) -> Any:
        pairs, negatives, found = self._of_pairs(start, stop)
        row = np.flatnonzero(found.any(axis=1))
        there = np.concatenate([np.ones((len(row), 1), dtype=bool), found[row]], axis=1)
        passages = np.concatenate([pairs[row, 1:], negatives[row]], axis=1)[there]
        positive = self._mined.positive_scores[start:stop][row, None]
        scores = np.concatenate([positive, self._negative_scores(start, stop)[row]], axis=1)[there]
        labels = np.broadcast_to(np.arange(there.shape[1]) == 0, there.shape)[there].astype(np.int64)
        lengths = there.sum(axis=1)
        values = {"scores": self._lists(scores, lengths)}, {"labels": self._lists(labels, lengths)}
        return self._table(pairs[row, 0], {"passages": passages}, *values, lengths=lengths)

    def _labeled_pairs(self, start: int, stop: int) -> Any:
        order = self._by_query[self._first[start] : self._first[stop]]
        pairs, scores = self._mined.pairs.pairs[order], self._mined.positive_scores[order]
        negatives = self._mined.negatives[start:stop]
        query, place = np.nonzero(negatives >= 0)
        queries = np.concatenate([pairs[:, 0], query + start])
        passages = np.concatenate([pairs[:, 1], negatives[query, place]])
        scores = np.concatenate([scores, self._mined.scores[start:stop][query, place]])
        labels = np.repeat(np.array([1, 0]), [len(pairs), len(query)])
        turn = np.argsort(queries, kind="stable")  # each query's positives, then its negatives
        values = {"score": self._arrow.array(scores[turn])}, {"label": self._arrow.array(labels[turn])}
        return self._table(queries[turn], {"passage": passages[turn]}, *values)

    def _of_pairs(self, start: int, stop: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        pairs = self._mined.pairs.pairs[start:stop]
        negatives = self._mined.negatives[pairs[:, 0]]
        return pairs, negatives, negatives >= 0

    def _negative_scores(self, start: int, stop: int) -> NDArray[np.float32]:
        return self._mined.scores[self._mined.pairs.pairs[start:stop, 0]]

    def _lists(self, values: NDArray[Any], lengths: NDArray[np.int64]) -> Any:
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        return self._arrow.ListArray.from_arrays(self._arrow.array(starts), self._arrow.array(values))

    def _table(
        self,
        queries: NDArray[np.int64],
        passages: dict[str, NDArray[np.int64]],
        with_scores: dict[str, Any],
        without_scores: dict[str, Any] | None = None,
        *,
        lengths: NDArray[np.int64] | None = None,
    ) -> Any:
        arrow = self._arrow
        offsets = None
        if lengths is not None:
            offsets = arrow.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))

        def taken(values: Any, rows: NDArray[np.int64], in_lists: bool = False) -> Any:
            found = values.take(arrow.array(rows.astype(np.int64)))
            return arrow.LargeListArray.from_arrays(offsets, found) if in_lists and offsets is not None else found

        columns = {"anchor": taken(self._queries, queries)}
        columns |= {name: taken(self._passages, rows, True) for name, rows in passages.items()}
        columns |= with_scores if self._scores else without_scores or {}
        if self._query_ids is not None:
            columns["query_id"] = taken(self._query_ids, queries)
        if self._passage_ids is not None:
            for name, rows in passages.items():
                columns[_id_name(name)] = taken(self._passage_ids, rows, True)
        return arrow.table(columns)


def _id_name(column: str) -> str:
    """positive_id, negative_1_id, passage_ids."""
    return "passage_ids" if column == "passages" else f"{column}_id"
