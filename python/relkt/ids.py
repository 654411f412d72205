"""Passage ids: unique integers or strings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Ids:
    """The ids of all passages, in the order of their rows.

    Attributes:
        values: (n,) int64 or object (str).
    """

    def __init__(self, values: NDArray[Any]) -> None:
        self.values = values

    @classmethod
    def of(cls, ids: Any, count: int) -> Ids:
        """Checks the caller's ids.

        Raises:
            TypeError: If ids are neither all integers nor all strings.
            ValueError: If their number is not ``count``, or they are not unique.
        """
        if isinstance(ids, Set | Mapping):
            raise TypeError(f"ids: expected them in the order of the passages, got a {type(ids).__name__}")
        values = _as_values("ids", ids)
        if len(values) != count:
            raise ValueError(f"ids: expected {count} values, one for each passage, got {len(values)}")
        if values.dtype == object:
            for position, text in enumerate(values.tolist()):
                if not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text):
                    raise ValueError(f"ids: expected valid Unicode, got {text!r} at position {position}")
        found = cls(values)
        found.check_unique()
        return found

    def check_unique(self) -> None:
        """Raises a ValueError that names the first repeated id."""
        if len(self._row_of) == len(self.values):
            return
        seen: dict[Any, int] = {}
        for row, value in enumerate(self.values.tolist()):
            if value in seen:
                raise ValueError(f"ids: expected each id once, got {value!r} for the passages {seen[value]} and {row}")
            seen[value] = row

    @cached_property
    def _row_of(self) -> dict[Any, int]:
        return {value: row for row, value in enumerate(self.values.tolist())}

    def _rows_of(self, wanted: list[Any]) -> list[int]:
        if len(self._row_of) != len(self.values):
            # Ids from the caller are unique, so repeated ids come from a damaged file.
            self.check_unique()
        return [self._row_of[value] for value in wanted]

    def rows(self, name: str, wanted: Any) -> NDArray[np.int64]:
        """The rows with the given ids.

        Raises:
            TypeError: If ids are neither all integers nor all strings.
            ValueError: If an id is unknown.
        """
        values = _as_values(name, wanted)
        try:
            return np.array(self._rows_of(values.tolist()), dtype=np.int64)
        except KeyError as error:
            raise ValueError(f"{name}: there is no passage with the id {error.args[0]!r}") from None

    def extend(self, more: Ids) -> Ids:
        """These ids followed by ``more``.

        Raises:
            TypeError: If some ids are integers and others strings.
            ValueError: If an id is in both these ids and ``more``.
        """
        if not len(more.values):
            return self
        if self.values.dtype != more.values.dtype:
            kind = "integers" if self.values.dtype == np.int64 else "strings"
            raise TypeError(f"ids: expected {kind}, like the ids of the index")
        both = Ids(np.concatenate([self.values, more.values]))
        both.check_unique()
        return both

    def to_core(self) -> NDArray[np.int64] | tuple[NDArray[np.int64], bytes]:
        """Ids for the extension: integers, or the ends of the texts and their concatenation in UTF-8."""
        if self.values.dtype == np.int64:
            return self.values
        texts = [text.encode() for text in self.values.tolist()]
        return np.cumsum([len(text) for text in texts], dtype=np.int64), b"".join(texts)

    @classmethod
    def from_core(cls, ids: NDArray[np.int64] | list[str]) -> Ids:
        """Ids from the extension."""
        return cls(ids if isinstance(ids, np.ndarray) else _objects(ids))


def as_row_numbers(name: str, rows: Any, count: int) -> NDArray[np.int64]:
    """Checked row numbers from 0 to ``count`` - 1.

    Raises:
        TypeError: If ``rows`` are not integers.
        ValueError: If a row is out of range.
    """
    values = _as_values(name, rows)
    if values.dtype != np.int64:
        raise TypeError(f"{name}: expected row numbers (the index has no ids), got strings")
    outside = np.flatnonzero((values < 0) | (values >= count))
    if len(outside):
        at = int(outside[0])
        raise ValueError(f"{name}: entry {at} is the row {values[at]}, expected a row from 0 to {count - 1}")
    return values


def _as_values(name: str, values: Any) -> NDArray[Any]:
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise TypeError(f"{name}: expected a sequence of integers or strings, got {values!r}")
    if isinstance(values, np.ndarray) and values.ndim != 1:
        raise TypeError(f"{name}: expected a 1-D array, got shape {values.shape}")
    if isinstance(values, np.ndarray) and np.issubdtype(values.dtype, np.integer):
        if values.dtype == np.uint64 and values.size and values.max() > np.iinfo(np.int64).max:
            raise ValueError(f"{name}: expected numbers below 2**63")
        return values.astype(np.int64)
    listed = values.tolist() if isinstance(values, np.ndarray) else list(values)
    if not listed:
        return np.empty(0, dtype=np.int64)
    if all(isinstance(value, str) for value in listed):
        return _objects(listed)
    texts = isinstance(listed[0], str)
    for position, value in enumerate(listed):
        if texts and not isinstance(value, str):
            raise TypeError(f"{name}: expected a string, like the first, got {value!r} at position {position}")
        if not texts and (isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer)):
            expected = "an integer, like the first" if position else "an integer or a string"
            raise TypeError(f"{name}: expected {expected}, got {value!r} at position {position}")
        if not texts and not -(2**63) <= value < 2**63:
            raise ValueError(f"{name}: expected 64-bit integers, got {value} at position {position}")
    return np.array(listed, dtype=np.int64)


def _objects(texts: list[str]) -> NDArray[Any]:
    values = np.empty(len(texts), dtype=object)
    values[:] = texts
    return values
