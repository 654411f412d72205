"""What a call asks for, and blocks of its queries with what is no candidate for them."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from relkt.mining.torch_backend.arguments import Pairs, ScoreWindow
from relkt.mining.torch_backend.products import error_bound, over, under, verify
from relkt.mining.torch_backend.rows import Rows, cosines

#: The score of cells that are no candidates.
NEVER = -math.inf


class MiningCall:
    """What one call asks for.

    Attributes:
        passages: All passages.
        queries: All queries of the call, on the device of the passages.
        windows: What to find for each query.
        positives: Queries and the rows of their positives.
        exclude: Queries and further rows that are no candidates, or None.
        limit: Highest cosine of a candidate with a positive, or None.
        bound: How far cosines of the first pass may be from scores.
        groups: (n,) int64 group of each passage, or None.
        positive_groups: Queries and the groups of their positives, each once, or None.
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
    """Some queries of a call, numbered from 0, and what is no candidate for them.

    Attributes:
        call: Of the call.
        members: (size,) int64, the queries' numbers in the call.
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
        """Where the passages are."""
        return self.passages.device

    def _own(self, pairs: Pairs) -> _BlockPairs:
        """The pairs of the block's queries."""
        number = np.full(len(self.call.queries), -1, dtype=np.int64)
        number[self.members] = np.arange(self.size)
        return _BlockPairs(number, pairs, self.device)

    def scores(self, unit: Tensor, start: int) -> Tensor:
        """(size, len(unit)) float32 cosines with the passages from ``start`` on; -inf for positives."""
        scores = self._unit @ unit.T
        self.positives.mask(scores, start)
        return scores

    def mask_excluded(self, scores: Tensor, start: int) -> None:
        """Excluded rows and the groups of positives: -inf."""
        if self._exclude is not None:
            self._exclude.mask(scores, start)
        if self._groups is None or self.call.groups is None:
            return
        # Each group of the chunk is one run of its sorted groups; only cells of runs that positives name are touched.
        groups, order = self.call.groups[start : start + scores.shape[1]].sort()
        first = torch.searchsorted(groups, self._groups.columns)
        length = torch.searchsorted(groups, self._groups.columns, right=True) - first
        pair = torch.repeat_interleave(length)
        scores[self._groups.queries[pair], order[first[pair] + ranks(pair, length)]] = NEVER

    def mask_near_positives(self, scores: Tensor, wanted: Tensor, unit: Tensor, start: int, limit: float) -> Tensor:
        """Cells of ``wanted`` whose passage is nearer to a positive than ``limit``: -inf.

        Returns:
            (size,) bool, which queries have such cells.
        """
        bound = self.call.bound
        at_limit = torch.tensor(limit, dtype=torch.float64, device=self.device)
        possible, sure = under(at_limit - bound), over(at_limit + bound)
        near = torch.zeros_like(wanted)
        for first in range(0, len(self.positives.queries), self.size):
            query = self.positives.queries[first : first + self.size]
            positive = self.positives.columns[first : first + self.size]
            similarity = self.passages.take(positive).unit() @ unit.T
            pair, column = ((similarity > possible) & wanted[query]).nonzero(as_tuple=True)
            value = similarity[pair, column]
            refused = value > sure
            doubtful = (~refused).nonzero(as_tuple=True)[0]
            left, right = positive[pair[doubtful]], column[doubtful] + start
            exact = cosines(self.passages, left, self.passages, right)
            verify(exact, value[doubtful], bound)
            refused[doubtful] = exact.double() > limit
            near[query[pair[refused]], column[refused]] = True
        scores.masked_fill_(near, NEVER)
        return near.any(1)

    def exact(self, scores: Tensor, query: Tensor, column: Tensor, start: int) -> Tensor:
        """Scores (float32 values as float64) of some cells."""
        exact = cosines(self.queries, query, self.passages, column + start)
        verify(exact, scores[query, column], self.call.bound)
        return exact.double()


class _BlockPairs:
    """Queries of a block and their rows (or groups), pair by pair in order of the rows."""

    def __init__(self, number: NDArray[np.int64], pairs: Pairs, device: torch.device) -> None:
        query, column = number[pairs[0]], pairs[1]
        query, column = query[query >= 0], column[query >= 0]
        order = np.argsort(column, kind="stable")
        self._sorted = column[order]
        self.queries = torch.from_numpy(query[order]).to(device)
        self.columns = torch.from_numpy(self._sorted).to(device)

    def mask(self, scores: Tensor, start: int) -> None:
        """Cells of scores with the passages from ``start`` on that are one of the pairs: -inf."""
        first, last = np.searchsorted(self._sorted, [start, start + scores.shape[1]]).tolist()
        scores[self.queries[first:last], self.columns[first:last] - start] = NEVER


def ranks(owners: Tensor, counts: Tensor) -> Tensor:
    """Place of each element among those of its owner, from 0: owners in ascending order, ``counts`` of each."""
    return torch.arange(len(owners), device=owners.device) - (counts.cumsum(0) - counts)[owners]
