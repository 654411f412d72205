"""The data set that shows the negatives of the moment."""

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
        """The batch with texts in the columns of negatives that it has.

        Raises:
            TypeError: If something else than numbers is in one of them.
        """
        for name in self._columns.keys() & batch.keys():
            queries = np.asarray(batch[name])
            if len(queries) and (queries.ndim != 1 or queries.dtype.kind != "i"):
                raise TypeError(
                    f"{name}: expected the numbers that a RemineCallback's dataset keeps there, got "
                    f"{batch[name][0]!r}, as map, flatten_indices and batch store; do that with a copy, "
                    "Dataset.from_list(list(remine.dataset)), whose negatives stay as they are"
                )
            rows = self.rows[queries.astype(np.int64), self._columns[name]]
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
        info.features = Features(
            dict.fromkeys(pairs.column_names, Value("large_string"))
            | dict.fromkeys(self._columns, Value("int64", id=_MARK))
        )
        columns = {name: pa.array(pairs[name][:], pa.large_string()) for name in pairs.column_names}
        columns |= dict.fromkeys(self._columns, pa.array(queries))
        return Dataset.from_dict(columns, info=info, split=pairs.split).with_transform(self)

    def is_in(self, dataset: Any) -> bool:
        """Whether a data set looks up its negatives here."""
        return _transform_of(dataset)[0] is self


def parts_of(dataloader: Any) -> list[Any]:
    """The data sets that a trainer's data loader reads; none without one."""
    dataset = getattr(dataloader, "dataset", None)
    if dataset is None:
        return []
    return list(dataset.datasets) if isinstance(dataset, ConcatDataset) else [dataset]


def name_of(dataset: Any) -> str | None:
    """What the trainer calls one of several data sets; None if it needs no name for it."""
    return _transform_of(dataset)[1]


def numbers_in(dataset: Any) -> list[str]:
    """The columns in which a data set has the numbers of queries that no transform replaces."""
    features = getattr(dataset, "features", None) or {}
    marked = [name for name, feature in features.items() if getattr(feature, "id", None) == _MARK]
    if not marked or not isinstance(dataset, Dataset):
        return marked
    row = dataset[0] if len(dataset) else {}
    return [name for name in marked if name in row and not isinstance(row[name], str)]


def _transform_of(dataset: Any) -> tuple[Any, str | None]:
    transform = dataset.format["format_kwargs"].get("transform") if isinstance(dataset, Dataset) else None
    name = None
    while isinstance(transform, partial):  # the trainer's own, which adds the name of the data set
        name = transform.keywords.get("dataset_name", name)
        transform = transform.keywords.get("transform")
    return transform, name
