"""The candidates of a block inside a window of scores: which are the best, and how many there are."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from relkt.mining.torch_backend.arguments import ScoreWindow
from relkt.mining.torch_backend.block import NEVER, Block, ranks
from relkt.mining.torch_backend.products import over, under


class _Window:
    """The limits of a block's scores, both exclusive: (size,) float64 each."""

    def __init__(self, block: Block, window: ScoreWindow) -> None:
        self.num = window[0]
        self.above, self.below = (torch.from_numpy(limit[block.members]).to(block.device) for limit in window[1:])
        self._block = block
        self._bound = block.call.bound

    def possible(self, scores: Tensor, above: Tensor) -> Tensor:
        """Cells whose score may lie between ``above`` (at least the lower limit) and the upper limit."""
        return (scores > under(above - self._bound)[:, None]) & (scores < over(self.below + self._bound)[:, None])

    def sure(self, scores: Tensor, above: Tensor) -> Tensor:
        """Cells whose score certainly does."""
        return (scores > over(above + self._bound)[:, None]) & (scores < under(self.below - self._bound)[:, None])

    def inside(self, scores: Tensor, cells: Tensor, start: int) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, rows and scores (float64) of those ``cells`` whose score lies in the window."""
        query, column = cells.nonzero(as_tuple=True)
        score = self._block.exact(scores, query, column, start)
        inside = (score > self.above[query]) & (score < self.below[query])
        return query[inside], column[inside] + start, score[inside]


class Best(_Window):
    """The best candidates of each query inside one window, over the passages seen so far.

    Attributes:
        too_similar: (size,) int64, passages apart from positives that score the upper limit or more.
    """

    def __init__(self, block: Block, window: ScoreWindow) -> None:
        super().__init__(block, window)
        self._bounded = not bool((self.below == math.inf).all())
        self.too_similar = torch.zeros(block.size, dtype=torch.int64, device=block.device)
        # Pairs in order of the queries, highest score first, ties by lower row; at most num for each query.
        self._query = torch.empty(0, dtype=torch.int64, device=block.device)
        self._row = self._query.clone()
        self._score = torch.empty(0, dtype=torch.float64, device=block.device)
        # The score of the last one where there are num of them.
        self._floor = torch.full((block.size,), NEVER, dtype=torch.float64, device=block.device)

    def candidates(self, scores: Tensor) -> Tensor:
        """Cells that may be among the best."""
        # Rows only grow, so that a later row has to beat the floor, not just to reach it.
        return self.possible(scores, torch.maximum(self.above, self._floor))

    def count_too_similar(self, scores: Tensor, start: int) -> None:
        """Counts the cells of a chunk, whose positives are -inf, that score the upper limit or more."""
        if not self._bounded:
            return
        sure = scores > over(self.below + self._bound)[:, None]
        self.too_similar += sure.sum(1)
        query, column = (scores > under(self.below - self._bound)[:, None]).logical_and_(~sure).nonzero(as_tuple=True)
        reached = self._block.exact(scores, query, column, start) >= self.below[query]
        self.too_similar += torch.bincount(query[reached], minlength=self._block.size)

    def add(self, scores: Tensor, start: int) -> None:
        """Takes the best of a chunk in, whose positives and other rows that are no candidates are -inf."""
        cells = self.candidates(scores)
        if self.num <= scores.shape[1] and int(cells.sum()) > 2 * self.num * self._block.size:
            cells &= scores > self._chunk_floor(scores)[:, None]
        self._merge(*self.inside(scores, cells, start))

    def _chunk_floor(self, scores: Tensor) -> Tensor:
        """What candidates of the chunk must exceed: cells that do not are beaten by num others of the chunk."""
        # These num cells are in the window for sure and score at least the lowest of them less the bound; a cell with
        # that score may be found another bound below.
        best = torch.where(self.sure(scores, self.above), scores, NEVER).topk(self.num, dim=1, sorted=False).values
        return under(best.min(1).values.double() - 2 * self._bound)

    def _merge(self, query: Tensor, row: Tensor, score: Tensor) -> None:
        query, row, score = (torch.cat(pair) for pair in ((self._query, query), (self._row, row), (self._score, score)))
        # One stable sort: rows stand in ascending order within equal scores already, as those that came are higher.
        order = ((query << 32) + (2**31 - 1 - _ordered(score))).sort(stable=True).indices
        query, row, score = query[order], row[order], score[order]
        number = torch.bincount(query, minlength=self._block.size)
        rank = ranks(query, number)
        last = rank == self.num - 1
        self._floor[query[last]] = score[last]
        keep = rank < self.num
        self._query, self._row, self._score = query[keep], row[keep], score[keep]

    def found(self) -> tuple[Tensor, Tensor, Tensor]:
        """Rows (size, num), scores (size, num) and how many there are (size,)."""
        number = torch.bincount(self._query, minlength=self._block.size)
        rank = ranks(self._query, number)
        shape = (self._block.size, self.num)
        rows = torch.full(shape, -1, dtype=torch.int64, device=self._block.device)
        scores = torch.full(shape, math.nan, dtype=torch.float32, device=self._block.device)
        rows[self._query, rank] = self._row
        scores[self._query, rank] = self._score.float()
        return rows, scores, number


class End(_Window):
    """Counts the rows inside a window that rank before the last result, or all of them if results are too few.

    Args:
        rows, scores, number: What :meth:`Best.found` returned for the queries of the block.
    """

    def __init__(self, block: Block, window: ScoreWindow, rows: Tensor, scores: Tensor, number: Tensor) -> None:
        super().__init__(block, window)
        full = number == self.num
        self._returned = number - full.long()
        self._row = rows[:, -1]
        self._score = scores[:, -1].double().masked_fill(~full, NEVER)
        self._number = torch.zeros_like(number)

    def count(self, scores: Tensor, start: int) -> None:
        """Counts the cells of a chunk, whose positives and excluded rows are -inf."""
        lowest = torch.maximum(self.above, self._score)
        sure = self.sure(scores, lowest)
        self._number += sure.sum(1)
        query, row, score = self.inside(scores, self.possible(scores, lowest) & ~sure, start)
        last = self._score[query]
        before = (score > last) | ((score == last) & (row < self._row[query]))
        self._number += torch.bincount(query[before], minlength=self._block.size)

    def not_returned(self) -> Tensor:
        """How many of the rows counted are no results: (size,) int64."""
        return self._number - self._returned


def _ordered(scores: Tensor) -> Tensor:
    """Integers of 32 bits, as int64, in the order of scores."""
    bits = scores.float().view(torch.int32)
    return torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).long()
