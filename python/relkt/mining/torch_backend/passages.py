"""Passages on a torch device, with the methods of the core's ``Passages``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from relkt.arrays import as_rows
from relkt.mining.torch_backend import passes
from relkt.mining.torch_backend.arguments import Lists, ScoreWindow, check_groups, checked_pairs, checked_windows
from relkt.mining.torch_backend.block import MiningCall
from relkt.mining.torch_backend.passes import Found
from relkt.mining.torch_backend.rows import Rows, cosines


class TorchPassages:
    """Passages on a torch device, with the methods and results of the core's ``Passages``.

    Args:
        passages: (n, d) float32 or float16, of any norm, on any device that has float64. The tensor is not copied, so
            do not change it while this object is in use.

    Raises:
        TypeError: If it is not a dense 2-D tensor of float32 or float16.
        ValueError: If it is empty or too large, or a row is all zeros or not finite.
    """

    def __init__(self, passages: Tensor) -> None:
        with torch.no_grad():
            self._rows = Rows.checked("passages", passages)

    @property
    def rows(self) -> int:
        """Number of passages."""
        return len(self._rows)

    @property
    def dim(self) -> int:
        """Number of columns."""
        return self._rows.dim

    @property
    def device(self) -> torch.device:
        """The device of the passages."""
        return self._rows.device

    def queries(self, queries: Tensor | NDArray[np.float32] | NDArray[np.float16]) -> Tensor:
        """Checks all queries and moves them to the device of the passages.

        Args:
            queries: (q, d) float32 or float16, of any norm: a tensor or an array.

        Raises:
            TypeError: If it is neither a tensor nor an array, or has another dtype.
            ValueError: If it is empty or has another width than the passages, or a row is all zeros or not finite.
        """
        if isinstance(queries, np.ndarray):
            queries = torch.tensor(as_rows("queries", queries))
        with torch.no_grad():
            return self._check_queries(queries).values

    def lowest_positive(self, queries: Tensor, positives: Lists, threads: int | None = None) -> NDArray[np.float32]:  # noqa: ARG002
        """The lowest score among each query's positives.

        Args:
            queries: (b, d) float32 or float16, of any norm; moved to the device of the passages.
            positives: Rows of each query's positives.
            threads: Ignored, because torch has its own setting; accepted because the core has it.

        Returns:
            (b,) float32, NaN for a query without positives.

        Raises:
            TypeError, ValueError: See :meth:`mine`.
        """
        with torch.no_grad():
            rows = self._check_queries(queries)
            pairs = checked_pairs("positives", positives, len(rows), self.rows)
            query, row = (torch.tensor(part, device=self.device) for part in pairs)
            scores = cosines(rows, query, self._rows, row)
        lowest = np.full(len(rows), np.inf, dtype=np.float32)
        np.minimum.at(lowest, pairs[0], scores.cpu().numpy())
        lowest[np.diff(positives[0]) == 0] = np.nan
        return lowest

    def mine(
        self,
        queries: Tensor,
        lists: Sequence[ScoreWindow],
        positives: Lists,
        exclude: Lists | None = None,
        groups: NDArray[np.int64] | None = None,
        max_positive_similarity: float | None = None,
        threads: int | None = None,  # noqa: ARG002
    ) -> list[Found]:
        """The best candidates inside each window of scores.

        A query's positives, its rows in ``exclude``, the passages in a positive's group, and passages whose cosine with
        a positive exceeds ``max_positive_similarity`` are not candidates.

        Args:
            queries: (b, d) float32 or float16, of any norm; moved to the device of the passages.
            lists: One (num, above, below) per result: the best ``num`` (1 to n) candidates with above < score < below;
                both limits are (b,) float64.
            positives: Rows of each query's positives; may be empty.
            exclude: Excluded rows of each query. Default: no rows.
            groups: (n,) int64, group of each passage. Default: no groups.
            max_positive_similarity: Maximum cosine of a candidate with a positive. Default: no limit.
            threads: Ignored, because torch has its own setting; accepted because the core has it.

        Returns:
            For each list, four arrays. Rows, (b, num) int64: highest score first, ties by lower row, then -1 for
            missing results. Scores, (b, num) float32: NaN for missing results. too_similar, (b,) int64: number of
            passages with score >= below, without the positives. near_positive, (b,) int64: number of passages inside
            the window that ``max_positive_similarity`` rejected. It counts those that rank before the last result, or
            all of them if there are fewer than ``num`` results.

        Raises:
            TypeError: If queries are not a dense 2-D tensor of float32 or float16.
            ValueError: If sizes do not fit together, a row is out of range, or a query is all zeros or not finite.
            RuntimeError: If the device's float32 products are less exact than IEEE arithmetic.
        """
        with torch.no_grad():
            rows = self._check_queries(queries)
            size = len(rows)
            windows = checked_windows(lists, size, self.rows)
            named = checked_pairs("positives", positives, size, self.rows)
            excluded = None if exclude is None else checked_pairs("exclude", exclude, size, self.rows)
            if groups is not None:
                check_groups(groups, self.rows)
            call = MiningCall(self._rows, rows, windows, named, excluded, groups, max_positive_similarity)
            return passes.mine(call)

    def _check_queries(self, queries: Tensor) -> Rows:
        return Rows.checked("queries", queries, device=self.device, dim=self.dim)
