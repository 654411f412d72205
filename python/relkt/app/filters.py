"""Columns of an index that passages can be chosen by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc

from relkt.retrieval import PassageStore

MAX_VALUES = 100
"""A column with more values is no filter of the page; the API filters by any column."""
_NEVER = ("id", "text", "title")


@dataclass(frozen=True)
class Filter:
    """A column with few values.

    Args:
        column: Its name.
        values: Value -> how many passages have it, most frequent first; None for those that have none.
    """

    column: str
    values: dict[Any, int]


def filters_of(passages: PassageStore, *, max_values: int = MAX_VALUES) -> list[Filter]:
    """The columns that have two to ``max_values`` values, some of several passages: language and document come first.

    Args:
        passages: The passages.
        max_values: The most values of a column.
    """
    columns = sorted(set(passages.columns) - {*_NEVER}, key=passages.columns.index)
    columns.sort(key=lambda name: name != "language")
    found = []
    for column in columns:
        try:
            # Counted first: a list of all values of a column such as a URL would be as long as the index.
            if pc.count_distinct(passages.to_table().column(column), mode="all").as_py() > max_values:
                continue
            values = passages.values(column)
        except (ValueError, NotImplementedError):
            continue  # nested, or of several types: nothing to choose from
        # Where every passage has a value of its own there is nothing to choose, either.
        if len(values) > 1 and max(count for value, count in values.items() if value is not None) > 1:
            found.append(Filter(column, values))
    return found
