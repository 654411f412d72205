"""A data set that looks up its current negatives when it is read."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
from datasets import Dataset, Features, Value
from numpy.typing import NDArray
from torch.utils.data import ConcatDataset

_MARK = "relkt: number of a query, for a RemineCallback to look up"
"""The ``id`` that marks a feature of a data set as a negative column."""


class NegativeTexts:
    """A data set's transform, which replaces the numbers of queries with the texts of their current negatives.

    Copies of a data set share the transform, so all of them show the same negatives. A worker process keeps the
    negatives that were current when it received the data set.

    Args:
        texts: The passages.
        columns: Names of the negative columns, in order of rank.

    Attributes:
        rows: (q, n) int64, the rows of each query's negatives; empty until set.
    """

    def __init__(self, texts: Sequence[str], columns: Sequence[str]) -> None:
        # An Arrow array is one object, which forked processes share without copying.
        self._texts = pa.array(texts, pa.large_string())
        self._columns = {name: rank for rank, name in enumerate(columns)}
        self.rows: NDArray[np.int64] = np.empty((0, len(columns)), dtype=np.int64)

    def __call__(self, batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """Replaces the numbers in the batch's negative columns with texts.

        Raises:
            TypeError: If a negative column does not hold numbers.
        """
        for name in self._columns.keys() & batch.keys():
            queries = np.asarray(batch[name])
            if len(queries) and (queries.ndim != 1 or queries.dtype.kind != "i"):
                raise TypeError(
                    f"{name}: expected the numbers that a RemineCallback's dataset keeps there, got "
                    f"{batch[name][0]!r}, stored by map, flatten_indices or batch; apply these to a copy with fixed "
                    "negatives, Dataset.from_list(list(remine.dataset))"
                )
            rows = self.rows[queries.astype(np.int64), self._columns[name]]
            batch[name] = self._texts.take(pa.array(rows)).to_pylist()
        return batch

    def __deepcopy__(self, memo: dict[int, Any]) -> NegativeTexts:
        # The library datasets copies a data set whenever it removes a column or sets a format.
        return self

    def added_to(self, pairs: Dataset, queries: NDArray[np.int64]) -> Dataset:
        """Adds the negative columns to a data set of pairs.

        Args:
            pairs: Columns of texts.
            queries: (rows,) The query of each row.
        """
        # Each negative column holds the number of the pair's query, which the transform replaces with a text. A row
        # thus keeps its negatives wherever it is moved, and each column can be read without the others.
        info = pairs.info.copy()
        info.features = Features(
            dict.fromkeys(pairs.column_names, Value("large_string"))
            | dict.fromkeys(self._columns, Value("int64", id=_MARK))
        )
        columns = {name: pa.array(pairs[name][:], pa.large_string()) for name in pairs.column_names}
        columns |= dict.fromkeys(self._columns, pa.array(queries))
        return Dataset.from_dict(columns, info=info, split=pairs.split).with_transform(self)

    def is_in(self, dataset: Any) -> bool:
        """True if a data set looks up its negatives with this transform."""
        return _transform_of(dataset)[0] is self


def parts_of(dataloader: Any) -> list[Any]:
    """The data sets that a trainer's data loader reads; empty without a data loader."""
    dataset = getattr(dataloader, "dataset", None)
    if dataset is None:
        return []
    return list(dataset.datasets) if isinstance(dataset, ConcatDataset) else [dataset]


def name_of(dataset: Any) -> str | None:
    """The trainer's name for one of several data sets; None for a single data set."""
    return _transform_of(dataset)[1]


def numbers_in(dataset: Any) -> list[str]:
    """The columns that hold numbers of queries and that no transform converts to texts."""
    features = getattr(dataset, "features", None) or {}
    marked = [name for name, feature in features.items() if getattr(feature, "id", None) == _MARK]
    if not marked or not isinstance(dataset, Dataset):
        return marked
    row = dataset[0] if len(dataset) else {}
    return [name for name in marked if name in row and not isinstance(row[name], str)]


def _transform_of(dataset: Any) -> tuple[Any, str | None]:
    transform = dataset.format["format_kwargs"].get("transform") if isinstance(dataset, Dataset) else None
    name = None
    while isinstance(transform, partial):  # the trainer's wrapper, which adds the name of the data set
        name = transform.keywords.get("dataset_name", name)
        transform = transform.keywords.get("transform")
    return transform, name
