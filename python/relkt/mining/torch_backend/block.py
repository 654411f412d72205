"""The arguments of a call, and blocks of its queries with their excluded passages."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from relkt.mining.torch_backend.arguments import Pairs, ScoreWindow
from relkt.mining.torch_backend.products import error_bound, over, under, verify
from relkt.mining.torch_backend.rows import Rows, cosines

#: The score of cells that are not candidates.
NEVER = -math.inf


class MiningCall:
    """The arguments of one call.

    Attributes:
        passages: All passages.
        queries: All queries of the call, on the device of the passages.
        windows: The windows of scores.
        positives: Queries and the rows of their positives.
        exclude: Queries and their excluded rows, or None.
        limit: Maximum cosine of a candidate with a positive, or None.
        bound: Maximum difference between a cosine of the first pass and the exact score.
        groups: (n,) int64 group of each passage, or None.
        positive_groups: Distinct pairs of a query and the group of a positive, or None.
    """

    def __init__(
        self,
        passages: Rows,
        queries: Rows,
        windows: list[ScoreWindow],
        positives: Pairs,
        exclude: Pairs | None,
        groups: NDArray[np.int64] | None,
        limit: float | None,
    ) -> None:
        self.passages = passages
        self.queries = queries
        self.windows = windows
        self.positives = positives
        self.exclude = exclude
        self.limit = limit
        self.bound = error_bound(passages.dim)
        self.groups: Tensor | None = None
        self.positive_groups: Pairs | None = None
        if groups is not None:
            self.groups = torch.tensor(groups, dtype=torch.int64, device=passages.device)
            query, group = positives[0], groups[positives[1]]
            order = np.lexsort((group, query))
            query, group = query[order], group[order]
            new = np.ones(len(order), dtype=bool)
            new[1:] = (query[1:] != query[:-1]) | (group[1:] != group[:-1])
            self.positive_groups = query[new], group[new]


class Block:
    """A block of a call's queries, numbered from 0, and their excluded passages.

    Attributes:
        call: The call.
        members: (size,) int64, the number that each query of the block has in the call.
        passages: All passages.
        queries: The queries of the block.
        positives: Their positives.
    """

    def __init__(self, call: MiningCall, members: NDArray[np.int64]) -> None:
        self.call = call
        self.members = members
        self.passages = call.passages
        self.queries = call.queries.take(torch.from_numpy(members).to(self.device))
        self._unit = self.queries.unit()
        self.positives = self._own(call.positives)
        self._exclude = None if call.exclude is None else self._own(call.exclude)
        self._groups = None if call.positive_groups is None else self._own(call.positive_groups)

    @property
    def size(self) -> int:
        """Number of queries."""
        return len(self.members)

    @property
    def device(self) -> torch.device:
        """The device of the passages."""
        return self.passages.device

    def _own(self, pairs: Pairs) -> _BlockPairs:
        """The pairs of the block's queries."""
        number = np.full(len(self.call.queries), -1, dtype=np.int64)
        number[self.members] = np.arange(self.size)
        return _BlockPairs(number, pairs, self.device)

    def scores(self, unit: Tensor, start: int) -> Tensor:
        """(size, len(unit)) float32 cosines with the passages from ``start``; -inf for positives."""
        scores = self._unit @ unit.T
        self.positives.mask(scores, start)
        return scores

    def mask_excluded(self, scores: Tensor, start: int) -> None:
        """Sets the scores of excluded rows and of the positives' groups to -inf."""
        if self._exclude is not None:
            self._exclude.mask(scores, start)
        if self._groups is None or self.call.groups is None:
            return
        # Sorting makes the rows of each group contiguous. Then only the rows of the positives' groups are masked.
        groups, order = self.call.groups[start : start + scores.shape[1]].sort()
        first = torch.searchsorted(groups, self._groups.columns)
        length = torch.searchsorted(groups, self._groups.columns, right=True) - first
        pair = torch.repeat_interleave(length)
        scores[self._groups.queries[pair], order[first[pair] + ranks(pair, length)]] = NEVER

    def mask_near_positives(self, scores: Tensor, wanted: Tensor, unit: Tensor, start: int, limit: float) -> Tensor:
        """Sets a cell of ``wanted`` to -inf if its passage has a cosine above ``limit`` with a positive of its query.

        Returns:
            (size,) bool, True for queries with rejected cells.
        """
        bound = self.call.bound
        at_limit = torch.tensor(limit, dtype=torch.float64, device=self.device)
        possible, certain = under(at_limit - bound), over(at_limit + bound)
        near = torch.zeros_like(wanted)
        for first in range(0, len(self.positives.queries), self.size):
            query = self.positives.queries[first : first + self.size]
            positive = self.positives.columns[first : first + self.size]
            similarity = self.passages.take(positive).unit() @ unit.T
            pair, column = ((similarity > possible) & wanted[query]).nonzero(as_tuple=True)
            value = similarity[pair, column]
            rejected = value > certain
            doubtful = (~rejected).nonzero(as_tuple=True)[0]
            left, right = positive[pair[doubtful]], column[doubtful] + start
            exact = cosines(self.passages, left, self.passages, right)
            verify(exact, value[doubtful], bound)
            rejected[doubtful] = exact.double() > limit
            near[query[pair[rejected]], column[rejected]] = True
        scores.masked_fill_(near, NEVER)
        return near.any(1)

    def exact(self, scores: Tensor, query: Tensor, column: Tensor, start: int) -> Tensor:
        """Exact scores of the given cells: float32 values as float64."""
        exact = cosines(self.queries, query, self.passages, column + start)
        verify(exact, scores[query, column], self.call.bound)
        return exact.double()


class _BlockPairs:
    """Pairs, each of a query of the block and a row (or group), in order of the rows."""

    def __init__(self, number: NDArray[np.int64], pairs: Pairs, device: torch.device) -> None:
        query, column = number[pairs[0]], pairs[1]
        query, column = query[query >= 0], column[query >= 0]
        order = np.argsort(column, kind="stable")
        self._sorted = column[order]
        self.queries = torch.from_numpy(query[order]).to(device)
        self.columns = torch.from_numpy(self._sorted).to(device)

    def mask(self, scores: Tensor, start: int) -> None:
        """Sets the scores of the pairs to -inf; the columns are the passages from ``start``."""
        first, last = np.searchsorted(self._sorted, [start, start + scores.shape[1]]).tolist()
        scores[self.queries[first:last], self.columns[first:last] - start] = NEVER


def ranks(owners: Tensor, counts: Tensor) -> Tensor:
    """Position, from 0, of each element among those of its owner. ``owners`` is sorted; ``counts`` has their sizes."""
    return torch.arange(len(owners), device=owners.device) - (counts.cumsum(0) - counts)[owners]
