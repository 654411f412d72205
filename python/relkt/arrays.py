"""Checks of arguments."""

from __future__ import annotations

import operator
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relkt.errors import ArgumentError, ArgumentTypeError

Embeddings = NDArray[np.float32] | NDArray[np.float16]


def as_rows(name: str, array: object) -> Embeddings:
    """A 2-D float32 or float16 array, aligned and C-contiguous; copied only if necessary."""
    rows = check_rows(name, array)
    return np.require(rows, rows.dtype, ["C", "A"])


def check_rows(name: str, array: object) -> Embeddings:
    """Check that an array is 2-D, of float32 or float16, and return it."""
    if not isinstance(array, np.ndarray):
        raise TypeError(
            f"{name}: expected a 2-D NumPy array of float32 or float16, got {type(array).__name__}; texts are encoded "
            "first, and np.asarray(rows, dtype=np.float32) makes an array of anything else"
        )
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"{name}: expected a plain array, got a masked one; fill it, or select the rows that count")
    if array.dtype not in (np.float32, np.float16):
        raise TypeError(
            f"{name}: expected dtype float32 or float16, got {array.dtype}; .astype(np.float32) converts it"
        )
    if array.ndim != 2:
        raise TypeError(f"{name}: expected 2 dimensions (rows, columns), got shape {array.shape}")
    return array


def is_tensor(value: object) -> bool:
    """True if a value is a torch tensor. Does not import torch: a caller that has a tensor has already imported it."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def without_tensor(value: Any) -> Any:
    """Convert a torch tensor to an array; return other values unchanged."""
    return value.detach().cpu().numpy() if is_tensor(value) else value


def to_core(rows: Embeddings) -> NDArray[np.float32] | NDArray[np.uint16]:
    """Convert rows for the extension, which takes the bits of float16 as uint16."""
    return rows.view(np.uint16) if rows.dtype == np.float16 else rows  # type: ignore[return-value]


def from_core(rows: NDArray[np.float32] | NDArray[np.uint16]) -> Embeddings:
    """The inverse of :func:`to_core`."""
    return rows.view(np.float16) if rows.dtype == np.uint16 else rows  # type: ignore[return-value]


def as_threads(threads: Any) -> int | None:
    """Check a number of threads; None means all."""
    return None if threads is None else as_count("threads", threads, "of at least 1, or None for all", least=1)


def as_count(name: str, value: Any, expected: str, *, least: int) -> int:
    """Check an integer of at least ``least``; floats and booleans are errors."""
    try:
        count = operator.index(value)
    except TypeError:
        count = None
    if count is None or isinstance(value, bool | np.bool_):
        raise ArgumentTypeError(name, f"an integer {expected}", repr(value))
    if not least <= count < 2**63:
        raise ArgumentError(name, f"an integer {expected}", count)
    return count
