"""Mined negatives as a data set, and the printed statistics."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, Protocol

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
from datasets import Dataset
from datasets.fingerprint import generate_random_fingerprint
from numpy.typing import NDArray

from relkt.mining.hard_negatives.pairs import Pairs
from relkt.mining.hard_negatives.selection import Selection, SelectionRule

OutputFormat = Literal["triplet", "n-tuple", "labeled-pair", "labeled-list"]
FORMATS: tuple[OutputFormat, ...] = ("triplet", "n-tuple", "labeled-pair", "labeled-list")

_PART_BYTES = 2**30
"""Maximum bytes of a record batch. 32-bit offsets suffice for it, so texts can have the type that datasets uses."""


def new_columns(output_format: OutputFormat, num_negatives: int, output_scores: bool) -> list[str]:
    """Names of the columns after anchor and positive, in order."""
    if output_format == "labeled-pair":
        return ["score" if output_scores else "label"]
    if output_format == "labeled-list":
        return ["scores" if output_scores else "labels"]
    negatives = ["negative"] if output_format == "triplet" else [f"negative_{i + 1}" for i in range(num_negatives)]
    return [*negatives, "scores"] if output_scores else negatives


@dataclass(frozen=True, eq=False)
class Formatted:
    """A data set of negatives, with the numbers for the statistics.

    Attributes:
        dataset: The data set.
        negative_scores: (s,) float32, the negative's score in each pair of a positive and a negative.
        differences: (s,) float32, the positive's score minus the negative's.
        max_samples: Number of rows if every query had enough negatives.
    """

    dataset: Dataset
    negative_scores: NDArray[np.float32]
    differences: NDArray[np.float32]
    max_samples: int


def format_negatives(
    pairs: Pairs, selection: Selection, output_format: OutputFormat, names: tuple[str, str], output_scores: bool
) -> Formatted:
    """Builds the data set in one of the four formats of ``mine_hard_negatives``."""
    query_of_pair = pairs.query_of_pair
    num_pairs, m = len(query_of_pair), selection.rows.shape[1]
    found = selection.rows[query_of_pair] >= 0  # (p, m): one row for each positive of a query
    if output_format == "n-tuple":
        found &= found.all(axis=1, keepdims=True)
    pair, place = np.nonzero(found)
    query = query_of_pair[pair]
    rows, scores = selection.rows[query, place], selection.scores[query, place]
    positive_scores = selection.positive_scores
    anchor, positive = names

    columns: dict[str, _Column] = {}
    new = new_columns(output_format, m, output_scores)
    max_samples = num_pairs
    if output_format == "triplet":
        max_samples = num_pairs * m
        columns[anchor] = _Texts(pairs.queries, query)
        columns[positive] = _Texts(pairs.corpus, pairs.positives[pair])
        columns["negative"] = _Texts(pairs.corpus, rows)
        if output_scores:
            columns["scores"] = _matrix(np.stack([positive_scores[pair], scores], axis=1))
    elif output_format == "n-tuple":
        kept = np.flatnonzero(found.all(axis=1))
        columns[anchor] = _Texts(pairs.queries, query_of_pair[kept])
        columns[positive] = _Texts(pairs.corpus, pairs.positives[kept])
        for number in range(m):
            columns[new[number]] = _Texts(pairs.corpus, rows.reshape(-1, m)[:, number])
        if output_scores:
            columns["scores"] = _matrix(np.hstack([positive_scores[kept, None], scores.reshape(-1, m)]))
    elif output_format == "labeled-pair":
        max_samples = len(selection.rows) * m + num_pairs
        negative_of, place = np.nonzero(selection.rows >= 0)
        owner, passages, values, labels = _joined(
            (query_of_pair, pairs.positives, positive_scores),
            (negative_of, selection.rows[negative_of, place], selection.scores[negative_of, place]),
        )
        columns[anchor] = _Texts(pairs.queries, owner)
        columns[positive] = _Texts(pairs.corpus, passages)
        columns[new[0]] = _Numbers(values.astype(np.float64) if output_scores else labels)
    else:
        kept = np.flatnonzero(found.any(axis=1))
        owner, passages, values, labels = _joined(
            (kept, pairs.positives[kept], positive_scores[kept]), (pair, rows, scores)
        )
        starts = np.append(np.searchsorted(owner, kept), len(owner))
        columns[anchor] = _Texts(pairs.queries, query_of_pair[kept])
        columns[positive] = _Lists(starts, _Texts(pairs.corpus, passages))
        columns[new[0]] = _Lists(starts, _Numbers(values.astype(np.float64) if output_scores else labels))

    # Without a fingerprint, datasets would pickle and hash the data set, which takes more memory than the data set.
    dataset = Dataset(_table(columns), fingerprint=generate_random_fingerprint())
    return Formatted(dataset, scores, positive_scores[pair] - scores, max_samples)


def _joined(
    positives: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]],
    negatives: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
    """(owner, passage, score, label) of positives and negatives, grouped by owner, positives first."""
    labels = np.repeat([1, 0], [len(positives[0]), len(negatives[0])])
    owner = np.concatenate([positives[0], negatives[0]])
    order = np.argsort(owner, kind="stable")
    passage, score = (np.concatenate([positives[i], negatives[i]])[order] for i in (1, 2))
    return owner[order], passage, score, labels[order]


class _Column(Protocol):
    """A column of a table, made part by part."""

    type: pa.DataType

    def sizes(self) -> NDArray[np.int64]:
        """Size of each row in bytes."""

    def part(self, start: int, stop: int) -> pa.Array:
        """The rows from ``start`` to ``stop``."""


class _Texts:
    type = pa.string()

    def __init__(self, source: pa.Array, rows: NDArray[np.int64]) -> None:
        self._source, self._rows = source, rows

    def sizes(self) -> NDArray[np.int64]:
        sizes: NDArray[np.int64] = pc.binary_length(self._source).to_numpy(zero_copy_only=False)[self._rows]
        return sizes

    def part(self, start: int, stop: int) -> pa.Array:
        return self._source.take(pa.array(self._rows[start:stop])).cast(self.type)


class _Numbers:
    def __init__(self, values: NDArray[np.int64] | NDArray[np.float64]) -> None:
        self.type = pa.from_numpy_dtype(values.dtype)
        self._values = values

    def sizes(self) -> NDArray[np.int64]:
        return np.full(len(self._values), self._values.itemsize)

    def part(self, start: int, stop: int) -> pa.Array:
        return pa.array(self._values[start:stop])


class _Lists:
    def __init__(self, starts: NDArray[np.int64], items: _Column) -> None:
        self.type = pa.list_(items.type)
        self._starts, self._items = starts, items

    def sizes(self) -> NDArray[np.int64]:
        ends = np.concatenate([[0], np.cumsum(self._items.sizes())])
        return np.diff(ends[self._starts])

    def part(self, start: int, stop: int) -> pa.Array:
        starts = self._starts[start : stop + 1]
        return pa.ListArray.from_arrays(
            pa.array((starts - starts[0]).astype(np.int32)), self._items.part(starts[0], starts[-1])
        )


def _matrix(values: NDArray[np.float32]) -> _Lists:
    rows, columns = values.shape
    return _Lists(np.arange(rows + 1) * columns, _Numbers(values.ravel().astype(np.float64)))


def _table(columns: dict[str, _Column]) -> pa.Table:
    schema = pa.schema([(name, column.type) for name, column in columns.items()])
    ends = np.cumsum(sum(column.sizes() for column in columns.values()))
    cuts = [0, *(np.flatnonzero(np.diff(ends // _PART_BYTES)) + 1).tolist(), len(ends)]
    return pa.Table.from_batches(
        [
            pa.record_batch([column.part(start, stop) for column in columns.values()], schema=schema)
            for start, stop in pairwise(cuts)
        ],
        schema=schema,
    )


def print_statistics(formatted: Formatted, selection: Selection, rule: SelectionRule) -> None:
    """Prints the table of scores, the rejections of each condition, and the number of missing samples."""
    kinds = (selection.positive_scores, formatted.negative_scores, formatted.differences)
    row = "{:<6} {:>14} {:>14} {:>14}".format
    say(row("Metric", "Positive", "Negative", "Difference"))
    say(row("Count", f"{len(kinds[0]):,}", f"{len(kinds[1]):,}", ""))
    summaries = [_summary(scores) for scores in kinds]
    for name in summaries[0]:
        say(row(name, *(f"{summary[name]:.4f}" for summary in summaries)))

    candidates = selection.candidates
    for name, count in selection.skipped.items():
        if count:
            limit = getattr(rule, name)
            say(f"Skipped {count:,} potential negatives ({count / candidates:.2%}) due to the {name} of {limit}.")
            candidates -= count

    missing = formatted.max_samples - len(formatted.dataset)
    if missing > 0:
        share = missing / formatted.max_samples
        say(f"Could not find enough negatives for {missing} samples ({share:.2%}). {_advice(rule)}")


def _advice(rule: SelectionRule) -> str:
    causes = [] if rule.range_max is None or rule.complete else ["range_max"]
    causes += ["range_min"] if rule.range_min else []
    names = ("absolute_margin", "relative_margin", "max_score", "min_score")
    causes += [name for name in names if getattr(rule, name) is not None]
    if not causes:
        return "The corpus has no other passages."
    listed = " and ".join(filter(None, [", ".join(causes[:-1]), causes[-1]]))
    parameters = "parameters" if len(causes) > 1 else "parameter"
    return f"Consider adjusting the {listed} {parameters} if you'd like to find more valid negatives."


def _summary(scores: NDArray[np.float32]) -> dict[str, float]:
    values = scores.astype(np.float64)
    if not len(values):
        empty = dict.fromkeys(("Mean", "Median", "Std"), np.nan) | dict.fromkeys(("Min", "25%", "50%", "75%"), np.inf)
        return {**empty, "Max": -np.inf}
    quarters: Any = np.quantile(values, [0.25, 0.5, 0.75])
    return {
        "Mean": values.mean(),
        "Median": np.quantile(values, 0.5, method="lower"),  # like torch.median: the lower of the two middle values
        "Std": values.std(ddof=1) if len(values) > 1 else np.nan,
        "Min": values.min(),
        **dict(zip(("25%", "50%", "75%"), quarters, strict=True)),
        "Max": values.max(),
    }


def say(line: str) -> None:
    """Prints a line of the report."""
    print(line)  # noqa: T201 - sentence-transformers prints too
