"""Rows with their norms, and exact scores of pairs of rows, computed as in the core."""

from __future__ import annotations

import math

import torch
from torch import Tensor

#: Number of bytes for the pairs of rows in one exact scoring step.
PAIR_BUDGET = 64 << 20
_MAX_ROWS = 2**32 - 1 - 64
_MAX_DIM = 2**17
# Number of partial sums in the dot product that defines scores, as in the core's `dot_f64`.
_LANES = 16


class Rows:
    """Checked rows with their norms.

    Attributes:
        values: (n, d) float32 or float16.
        norms: (n,) float64.
    """

    def __init__(self, values: Tensor, norms: Tensor) -> None:
        self.values = values
        self.norms = norms

    @classmethod
    def checked(cls, name: str, values: Tensor, device: torch.device | None = None, dim: int | None = None) -> Rows:
        """Rows of a tensor, moved to ``device``.

        Raises:
            TypeError: If it is not a dense 2-D tensor of float32 or float16.
            ValueError: If it is empty or too large, its width is not ``dim``, or a row is all zeros or not finite.
        """
        if not isinstance(values, Tensor):
            raise TypeError(f"{name}: expected a 2-D torch tensor of float32 or float16, got {type(values).__name__}")
        if values.layout != torch.strided:
            raise TypeError(f"{name}: expected a dense tensor, got one with layout {values.layout}")
        if values.dtype not in (torch.float32, torch.float16):
            raise TypeError(
                f"{name}: expected dtype float32 or float16, got {str(values.dtype).removeprefix('torch.')}"
            )
        if values.ndim != 2:
            raise TypeError(f"{name}: expected 2 dimensions (rows, columns), got shape {tuple(values.shape)}")
        rows, columns = values.shape
        if rows == 0 or columns == 0:
            raise ValueError(f"{name}: expected at least one row and one column, got shape ({rows}, {columns})")
        if rows > _MAX_ROWS:
            raise ValueError(f"{name}: expected at most {_MAX_ROWS} rows, got {rows}")
        if columns > _MAX_DIM:
            raise ValueError(f"{name}: expected at most {_MAX_DIM} columns, got {columns}")
        if dim is not None and columns != dim:
            raise ValueError(f"{name}: expected dimension {dim} like the passages, got {columns}")
        values = values.detach().to(device=device or values.device)
        return cls(values, _norms(name, values))

    def __len__(self) -> int:
        return len(self.values)

    @property
    def dim(self) -> int:
        """Number of columns."""
        return self.values.shape[1]

    @property
    def device(self) -> torch.device:
        """The device of the rows."""
        return self.values.device

    def take(self, rows: Tensor) -> Rows:
        """Some of the rows, with their norms."""
        return Rows(self.values[rows], self.norms[rows])

    def unit(self, start: int = 0, stop: int | None = None) -> Tensor:
        """Rows from ``start`` to ``stop`` divided by their norms, float32."""
        return self.values[start:stop].double().mul_(self.norms[start:stop, None].reciprocal()).float()


def cosines(a: Rows, a_rows: Tensor, b: Rows, b_rows: Tensor) -> Tensor:
    """Scores of pairs of rows, float32; equal to the core's `cosine`, bit for bit."""
    scores = torch.empty(len(a_rows), dtype=torch.float32, device=a.device)
    step = _pair_step(a.dim)
    for first in range(0, len(a_rows), step):
        left, right = a_rows[first : first + step], b_rows[first : first + step]
        dot = _dot(a.values[left], b.values[right])
        # An underflow leaves -0.0; adding zero turns it into 0.0.
        scores[first : first + step] = (dot / (a.norms[left] * b.norms[right])).float() + 0.0
    return scores


def _norms(name: str, values: Tensor) -> Tensor:
    """Norms of all rows, float64; raises an error for the first row that is all zeros or not finite."""
    norms = torch.empty(len(values), dtype=torch.float64, device=values.device)
    step = _pair_step(values.shape[1])
    for first in range(0, len(values), step):
        rows = values[first : first + step]
        squared = _dot(rows, rows)
        finite = torch.isfinite(rows).all(1)
        wrong = (~finite | (squared == 0)).nonzero()
        if len(wrong) > 0:
            row = int(wrong[0])
            if bool(finite[row]):
                raise ValueError(f"{name}: row {first + row} is all zeros, which has no cosine with anything")
            column = int((~torch.isfinite(rows[row])).nonzero()[0])
            value = float(rows[row, column])
            got = "NaN" if math.isnan(value) else value
            raise ValueError(f"{name}: expected finite values, got {got} at row {first + row}, column {column}")
        norms[first : first + step] = squared.sqrt()
    return norms


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Dot products of the rows of a and b, float64, summed in the order that defines scores (the core's `dot_f64`).

    Products of float32 values are exact in float64. The product of column c is added to the partial sum c mod 16, in
    order of the columns. Then the second half of the sums is added to the first half, and so on until one is left.
    """
    sums = torch.zeros((len(a), _LANES), dtype=torch.float64, device=a.device)
    for start in range(0, a.shape[1], _LANES):
        products = a[:, start : start + _LANES].double() * b[:, start : start + _LANES].double()
        sums[:, : products.shape[1]] += products
    width = _LANES // 2
    while width > 0:
        sums = sums[:, :width] + sums[:, width : 2 * width]
        width //= 2
    return sums[:, 0]


def _pair_step(dim: int) -> int:
    """Number of pairs in one exact scoring step."""
    return max(1, PAIR_BUDGET // (8 * dim + 4 * 8 * _LANES))
