"""The best candidates of a block inside a window of scores, and counts of candidates."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from relkt.mining.torch_backend.arguments import ScoreWindow
from relkt.mining.torch_backend.block import NEVER, Block, ranks
from relkt.mining.torch_backend.products import over, under


class _Window:
    """The exclusive limits of a block's scores: (size,) float64 each."""

    def __init__(self, block: Block, window: ScoreWindow) -> None:
        self.num = window[0]
        self.above, self.below = (torch.from_numpy(limit[block.members]).to(block.device) for limit in window[1:])
        self._block = block
        self._bound = block.call.bound

    def possible(self, scores: Tensor, above: Tensor) -> Tensor:
        """Cells whose score may lie between ``above`` and the upper limit; ``above`` is at least the lower limit."""
        return (scores > under(above - self._bound)[:, None]) & (scores < over(self.below + self._bound)[:, None])

    def certain(self, scores: Tensor, above: Tensor) -> Tensor:
        """Cells whose score certainly lies between ``above`` and the upper limit."""
        return (scores > over(above + self._bound)[:, None]) & (scores < under(self.below - self._bound)[:, None])

    def inside(self, scores: Tensor, cells: Tensor, start: int) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, rows and exact scores (float64) of the ``cells`` whose score lies in the window."""
        query, column = cells.nonzero(as_tuple=True)
        score = self._block.exact(scores, query, column, start)
        inside = (score > self.above[query]) & (score < self.below[query])
        return query[inside], column[inside] + start, score[inside]


class Best(_Window):
    """The best candidates of each query inside one window, over the passages seen so far.

    Attributes:
        too_similar: (size,) int64, number of passages other than positives at or above the upper limit.
    """

    def __init__(self, block: Block, window: ScoreWindow) -> None:
        super().__init__(block, window)
        self._bounded = not bool((self.below == math.inf).all())
        self.too_similar = torch.zeros(block.size, dtype=torch.int64, device=block.device)
        # Pairs in order of the queries, highest score first, ties by lower row; at most num per query.
        self._query = torch.empty(0, dtype=torch.int64, device=block.device)
        self._row = self._query.clone()
        self._score = torch.empty(0, dtype=torch.float64, device=block.device)
        # The lowest score among num candidates; -inf for queries with fewer.
        self._threshold = torch.full((block.size,), NEVER, dtype=torch.float64, device=block.device)

    def candidates(self, scores: Tensor) -> Tensor:
        """Cells that may be among the best."""
        # Rows arrive in ascending order, and the lower row wins a tie. So a new row must exceed the threshold.
        return self.possible(scores, torch.maximum(self.above, self._threshold))

    def count_too_similar(self, scores: Tensor, start: int) -> None:
        """Counts the cells of a chunk at or above the upper limit; positives have the score -inf."""
        if not self._bounded:
            return
        certain = scores > over(self.below + self._bound)[:, None]
        self.too_similar += certain.sum(1)
        query, column = (
            (scores > under(self.below - self._bound)[:, None]).logical_and_(~certain).nonzero(as_tuple=True)
        )
        reached = self._block.exact(scores, query, column, start) >= self.below[query]
        self.too_similar += torch.bincount(query[reached], minlength=self._block.size)

    def add(self, scores: Tensor, start: int) -> None:
        """Adds the best candidates of a chunk; cells that are not candidates have the score -inf."""
        cells = self.candidates(scores)
        if self.num <= scores.shape[1] and int(cells.sum()) > 2 * self.num * self._block.size:
            cells &= scores > self._chunk_threshold(scores)[:, None]
        self._merge(*self.inside(scores, cells, start))

    def _chunk_threshold(self, scores: Tensor) -> Tensor:
        """A threshold for each query; a cell at or below it ranks after num other cells of the chunk."""
        # Take the num highest approximate scores of cells that are certainly in the window; let m be the lowest of
        # them. The exact scores of these num cells are at least m - bound. So a cell that ranks among the num best has
        # an approximate score of at least m - 2 bound.
        best = torch.where(self.certain(scores, self.above), scores, NEVER).topk(self.num, dim=1, sorted=False).values
        return under(best.min(1).values.double() - 2 * self._bound)

    def _merge(self, query: Tensor, row: Tensor, score: Tensor) -> None:
        query, row, score = (torch.cat(pair) for pair in ((self._query, query), (self._row, row), (self._score, score)))
        # A stable sort keeps ties in order of the rows, because new rows have higher numbers.
        order = ((query << 32) + (2**31 - 1 - _ordered(score))).sort(stable=True).indices
        query, row, score = query[order], row[order], score[order]
        number = torch.bincount(query, minlength=self._block.size)
        rank = ranks(query, number)
        last = rank == self.num - 1
        self._threshold[query[last]] = score[last]
        keep = rank < self.num
        self._query, self._row, self._score = query[keep], row[keep], score[keep]

    def found(self) -> tuple[Tensor, Tensor, Tensor]:
        """Rows (size, num), scores (size, num) and number of candidates (size,)."""
        number = torch.bincount(self._query, minlength=self._block.size)
        rank = ranks(self._query, number)
        shape = (self._block.size, self.num)
        rows = torch.full(shape, -1, dtype=torch.int64, device=self._block.device)
        scores = torch.full(shape, math.nan, dtype=torch.float32, device=self._block.device)
        rows[self._query, rank] = self._row
        scores[self._query, rank] = self._score.float()
        return rows, scores, number


class End(_Window):
    """Counts the rows in a window that rank before the last result; all its rows if there are fewer than num results.

    Args:
        rows, scores, number: Results of :meth:`Best.found` for the queries of the block.
    """

    def __init__(self, block: Block, window: ScoreWindow, rows: Tensor, scores: Tensor, number: Tensor) -> None:
        super().__init__(block, window)
        full = number == self.num
        self._returned = number - full.long()
        self._row = rows[:, -1]
        self._score = scores[:, -1].double().masked_fill(~full, NEVER)
        self._number = torch.zeros_like(number)

    def count(self, scores: Tensor, start: int) -> None:
        """Counts the cells of a chunk; positives and excluded rows have the score -inf."""
        lowest = torch.maximum(self.above, self._score)
        certain = self.certain(scores, lowest)
        self._number += certain.sum(1)
        query, row, score = self.inside(scores, self.possible(scores, lowest) & ~certain, start)
        last = self._score[query]
        before = (score > last) | ((score == last) & (row < self._row[query]))
        self._number += torch.bincount(query[before], minlength=self._block.size)

    def not_returned(self) -> Tensor:
        """Number of counted rows that are not results: (size,) int64."""
        return self._number - self._returned


def _ordered(scores: Tensor) -> Tensor:
    """Maps scores to 32-bit integers of the same order, as int64."""
    bits = scores.float().view(torch.int32)
    return torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).long()
