"""Pairs of texts read from a data set, with every text once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
from datasets import Dataset
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of an anchor and a positive, with every text once.

    Attributes:
        queries: (q,) Arrow array of large_string, the anchors in order of first appearance.
        corpus: (n,) Arrow array of large_string, the passages: the given corpus, then the positives missing from it.
        starts: (q + 1,) int64, query i has ``positives[starts[i]:starts[i + 1]]``.
        positives: (p,) int64 rows of the corpus, for each query in order of first appearance.
        rows_per_query: (q,) int64, rows of the data set for each query; exceeds the number of positives if pairs are
            repeated.
    """

    queries: pa.Array
    corpus: pa.Array
    starts: NDArray[np.int64]
    positives: NDArray[np.int64]
    rows_per_query: NDArray[np.int64]

    @property
    def query_of_pair(self) -> NDArray[np.int64]:
        """(p,) int64, the query of each of ``positives``."""
        return np.repeat(np.arange(len(self.queries)), np.diff(self.starts))

    def texts(self, queries: NDArray[np.int64], passages: NDArray[np.int64]) -> list[tuple[str, str]]:
        """The texts of pairs of a query and a passage."""
        return list(
            zip(
                self.queries.take(pa.array(queries)).to_pylist(),
                self.corpus.take(pa.array(passages)).to_pylist(),
                strict=True,
            )
        )


def read_pairs(dataset: Dataset, anchor: str, positive: str, corpus: Sequence[str] | None) -> Pairs:
    """Reads two columns and drops repeated texts.

    Raises:
        TypeError: If ``corpus`` is not a list of strings, or a cell of the columns is not a string; the message names
            the row.
        ValueError: If a cell is empty (None).
    """
    listed = [] if corpus is None else [_listed_texts("corpus", corpus)]
    queries, query_of_row = _numbered(_column(dataset, anchor))
    passages, passage_of_row = _numbered([*listed, *_column(dataset, positive)])
    passage_of_row = passage_of_row[len(passage_of_row) - len(query_of_row) :]
    del listed
    pa.default_memory_pool().release_unused()  # texts can take gigabytes, and the model needs memory next

    num_queries, num_passages = len(queries), len(passages)
    pairs, first_rows = np.unique(query_of_row * num_passages + passage_of_row, return_index=True)
    order = np.lexsort((first_rows, pairs // num_passages))
    query_of_pair, positives = np.divmod(pairs[order], num_passages)
    return Pairs(
        queries,
        passages,
        np.searchsorted(query_of_pair, np.arange(num_queries + 1)),
        positives,
        np.bincount(query_of_row, minlength=num_queries),
    )


def _numbered(texts: list[pa.Array]) -> tuple[pa.Array, NDArray[np.int64]]:
    """The distinct texts in order of first appearance, and for each text its number among them."""
    encoded = pa.chunked_array(texts, pa.large_string()).dictionary_encode()
    numbers = np.concatenate([part.indices.to_numpy() for part in encoded.chunks]).astype(np.int64)
    return encoded.chunk(encoded.num_chunks - 1).dictionary, numbers


def _column(dataset: Dataset, name: str) -> list[pa.Array]:
    if dataset.format["type"] == "custom":  # a transform computes the cells on access
        return [_listed_texts(f"dataset: column {name!r}", dataset[name][:])]
    column = dataset.select_columns(name).with_format("arrow")[:].column(name)
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return [_listed_texts(f"dataset: column {name!r}", column.to_pylist())]
    if column.null_count:
        row = pc.index(pc.is_null(column), True).as_py()
        raise ValueError(f"dataset: column {name!r}: expected texts, got None in row {row}")
    chunks: list[pa.Array] = column.cast(pa.large_string()).chunks
    return chunks


def _listed_texts(name: str, texts: Any) -> pa.Array:
    if isinstance(texts, str | bytes):
        raise TypeError(f"{name}: expected a list of texts, got one text; put it in a list")
    try:
        listed = list(texts)
    except TypeError:
        raise TypeError(f"{name}: expected a list of texts, got {type(texts).__name__}") from None
    if not all(issubclass(kind, str) for kind in set(map(type, listed))):
        row = next(row for row, text in enumerate(listed) if not isinstance(text, str))
        if listed[row] is None:
            raise ValueError(f"{name}: expected texts, got None in row {row}")
        raise TypeError(f"{name}: expected texts, got {type(listed[row]).__name__} in row {row}")
    return pa.array(listed, type=pa.large_string())
