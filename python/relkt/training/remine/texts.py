"""The data set that shows the negatives of the moment."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
from datasets import Dataset
from numpy.typing import NDArray


class NegativeTexts:
    """A data set's transform: puts the texts of the current negatives in the place of the numbers of their queries.

    Copies of a data set share it, so all of them show the same negatives. A process that was handed the data set has
    the negatives of that moment.

    Args:
        texts: The passages.
        columns: The columns of negatives, in order of rank.

    Attributes:
        rows: (q, n) int64, the row of each query's negatives; none until they are set.
    """

    def __init__(self, texts: Sequence[str], columns: Sequence[str]) -> None:
        # Arrow rather than a list: one object, which processes share after a fork as long as nobody writes to it.
        self._texts = pa.array(texts, pa.large_string())
        self._columns = {name: rank for rank, name in enumerate(columns)}
        self.rows: NDArray[np.int64] = np.empty((0, len(columns)), dtype=np.int64)

    def __call__(self, batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """The batch with texts in the columns of negatives that it has."""
        for name in self._columns.keys() & batch.keys():
            rows = self.rows[np.asarray(batch[name], dtype=np.int64), self._columns[name]]
            batch[name] = self._texts.take(pa.array(rows)).to_pylist()
        return batch

    def __deepcopy__(self, memo: dict[int, Any]) -> NegativeTexts:
        # datasets copies a data set for each column it removes and each format it sets.
        return self

    def added_to(self, pairs: Dataset, queries: NDArray[np.int64]) -> Dataset:
        """A data set of pairs with the negatives beside them.

        Args:
            pairs: Columns of texts.
            queries: (rows,) The query of each row.
        """
        # Each column of negatives holds the number of the pair's query, and the transform does the rest: so a row
        # keeps its negatives wherever it is moved, and a column can be read without the others.
        info = pairs.info.copy()
        info.features = None
        columns = {name: pa.array(pairs[name][:], pa.large_string()) for name in pairs.column_names}
        columns |= dict.fromkeys(self._columns, pa.array(queries))
        return Dataset.from_dict(columns, info=info, split=pairs.split).with_transform(self)

    def is_in(self, dataset: Any) -> bool:
        """Whether a data set looks up its negatives here."""
        transform = dataset.format["format_kwargs"].get("transform") if isinstance(dataset, Dataset) else None
        while isinstance(transform, partial):  # the trainer's own, which adds the name of the data set
            transform = transform.keywords.get("transform")
        return transform is self
