"""Columns of an index that the page offers as filters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc

from relkt.retrieval import PassageStore

MAX_VALUES = 100
"""Maximum number of values of a filter on the page; the API filters by any column."""
_NEVER = ("id", "text", "title")


@dataclass(frozen=True)
class Filter:
    """A column with few values.

    Args:
        column: Its name.
        values: Value -> number of passages with it, most frequent first; None stands for a missing value.
    """

    column: str
    values: dict[Any, int]


def filters_of(passages: PassageStore, *, max_values: int = MAX_VALUES) -> list[Filter]:
    """The columns that have 2 to ``max_values`` values and at least one value that several passages share.

    The column ``language`` comes first.

    Args:
        passages: The passages.
        max_values: Maximum number of values of a column.
    """
    columns = sorted(set(passages.columns) - {*_NEVER}, key=passages.columns.index)
    columns.sort(key=lambda name: name != "language")
    found = []
    for column in columns:
        try:
            # Count first: if the values of a column are unique, such as URLs, their list is as long as the index.
            if pc.count_distinct(passages.to_table().column(column), mode="all").as_py() > max_values:
                continue
            values = passages.values(column)
        except (ValueError, NotImplementedError):
            continue  # nested, or of several types
        # A column with unique values, such as a URL, is not a useful filter.
        if len(values) > 1 and max(count for value, count in values.items() if value is not None) > 1:
            found.append(Filter(column, values))
    return found
