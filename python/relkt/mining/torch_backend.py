"""Mining on torch tensors, in chunks on their device: the results of the Rust core, bit for bit.

A chunk is a block of queries against a stretch of passages. Its cosines are first computed in float32, as one product
of unit rows; :func:`error_bound` says how far they may be from the scores. What that distance leaves open, be it
whether a score lies in a window, beats the best so far or is above a limit, is decided by the score itself, computed in
double precision as the core computes it. So nothing depends on how the device adds up, and every result is certain.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from relkt.arrays import as_rows

#: Number of the best candidates wanted, and the limits of their scores, both exclusive: (b,) float64 each.
ScoreWindow = tuple[int, NDArray[np.float64], NDArray[np.float64]]
#: Rows of all queries one after the other: starts (b + 1,) and rows, int64.
Lists = tuple[NDArray[np.int64], NDArray[np.int64]]
#: Rows (b, num) int64, scores (b, num) float32, too_similar (b,) int64, near_positive (b,) int64.
Found = tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]

_MAX_ROWS = 2**32 - 1 - 64
_MAX_DIM = 2**17
# Lanes of the dot product that defines scores; the same number as in the core's `dot_f64`.
_LANES = 16
# Bytes that one cell of a chunk (a query and a passage) takes at worst, when all cells are candidates that tie: the
# score, masks, the row numbers of all candidates and what sorting them needs.
_CELL_BYTES = 128
# Bytes that one value takes while its row is made a unit row.
_VALUE_BYTES = 20
# Bytes for chunks, on a device whose free memory is not known and at most.
_DEFAULT_BUDGET = 256 << 20
_MAX_BUDGET = 2 << 30
# Bytes for pairs of rows that are scored exactly at a time.
_PAIR_BUDGET = 64 << 20
_NEVER = -math.inf


def error_bound(dim: int) -> float:
    """How far a cosine of the first pass can be from the score, for rows of ``dim`` values.

    With u = 2^-24, unit roundoff of float32:

    1. *Unit rows.* Norms and quotients in double precision err by at most (d + 4) 2^-53 <= 2^-35 (relative, d <= 2^17),
       rounding to float32 by u more: stored values are the unit row's times (1 + w), |w| <= u + 2^-34 < 2u. As both
       true rows have norm 1, Cauchy-Schwarz bounds what this does to their product by 2 (2u) + (2u)^2, and the sum of
       the products' absolute values by (1 + 2u)^2.
    2. *The product.* A sum of d products, in any order, with or without fused operations, errs by at most
       g (sum of the products' absolute values), g = d v / (1 - d v), v the unit roundoff of each operation (Higham,
       Accuracy and Stability of Numerical Algorithms, section 3.1). We take v = 2u, which holds however the device
       rounds, not just to nearest.
    3. *The score.* Double precision and one rounding to float32 leave it within u + 2^-34 < 2u of the true cosine.

    What is left of 2u in 1 and 3, about u each, is more than underflow can do (d 2^-125).
    """
    v = 2.0**-23
    g = dim * v / (1 - dim * v)
    return g * (1 + v) ** 2 + 2 * v + v**2 + v


class TorchPassages:
    """Passages on a torch device to mine among: the same methods and results as the core's ``Passages``.

    Args:
        passages: (n, d) float32 or float16, on any device that has float64, of any norm. Not copied: it must not change
            as long as this object is in use.

    Raises:
        TypeError: If it is no dense 2-D tensor of float32 or float16.
        ValueError: If it is empty or too large, or a row is not finite or all zeros.
    """

    def __init__(self, passages: Tensor) -> None:
        with torch.no_grad():
            self._rows = _Rows.checked("passages", passages)

    @property
    def rows(self) -> int:
        """Number of passages."""
        return len(self._rows.values)

    @property
    def dim(self) -> int:
        """Number of columns."""
        return self._rows.values.shape[1]

    @property
    def device(self) -> torch.device:
        """Where the passages are."""
        return self._rows.values.device

    def queries(self, queries: Tensor | NDArray[np.float32] | NDArray[np.float16]) -> Tensor:
        """Queries, checked as a whole and moved to the device of the passages.

        Args:
            queries: (q, d) float32 or float16, of any norm: a tensor or an array.

        Raises:
            TypeError: If it is neither, or not of this kind.
            ValueError: If it is empty, its width is not that of the passages, or a row is not finite or all zeros.
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
            threads: Only there because the core has it; torch has its own setting.

        Returns:
            (b,) float32, NaN where a query has no positive.

        Raises:
            TypeError, ValueError: As :meth:`mine`.
        """
        with torch.no_grad():
            rows = self._check_queries(queries)
            pairs = _pairs("positives", positives, len(rows.values), self.rows)
            lowest = np.full(len(rows.values), np.inf, dtype=np.float32)
            scores = _cosines(rows, self._tensor(pairs[0]), self._rows, self._tensor(pairs[1]))
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

        No candidates are a query's positives, its rows in ``exclude``, the passages of a positive's group, and passages
        whose cosine with a positive is above ``max_positive_similarity``.

        Args:
            queries: (b, d) float32 or float16, of any norm; moved to the device of the passages.
            lists: For each result (num, above, below): the ``num`` best candidates, 1 to n, with above < score < below,
                both limits (b,) float64.
            positives: Rows of each query's positives; may be empty.
            exclude: Further rows that are no candidates. Default: none.
            groups: (n,) int64, group of each passage. Default: no groups.
            max_positive_similarity: Default: no limit.
            threads: Only there because the core has it; torch has its own setting.

        Returns:
            For each list rows (b, num) int64, highest score first, ties by lower row, -1 where there are none left;
            scores (b, num) float32, NaN there; too_similar (b,) int64, passages apart from positives that score
            ``below`` or more; near_positive (b,) int64, candidates inside the window refused for
            ``max_positive_similarity`` that rank before the last one returned, all of them if fewer than ``num`` were
            found.

        Raises:
            TypeError: If queries are no dense 2-D tensor of float32 or float16.
            ValueError: If sizes do not fit together, a row is out of range, or a query is not finite or all zeros.
            RuntimeError: If the device's float32 products are less exact than IEEE arithmetic makes them.
        """
        with torch.no_grad():
            rows = self._check_queries(queries)
            size = len(rows.values)
            windows = _checked_windows(lists, size, self.rows)
            named = _pairs("positives", positives, size, self.rows)
            banned = None if exclude is None else _pairs("exclude", exclude, size, self.rows)
            if groups is not None and groups.shape != (self.rows,):
                got = len(groups) if groups.ndim == 1 else f"shape {groups.shape}"
                raise ValueError(f"groups: expected {self.rows} values, one for each passage, got {got}")
            conditions = _Conditions(
                self._rows, rows, windows, named, banned, groups, max_positive_similarity, error_bound(self.dim)
            )
            block, stretch = _chunk_shape(size, self.dim, self.device)
            members = np.arange(size, dtype=np.int64)
            with _exact_products(self.device):
                blocks = [
                    _mine_block(conditions, members[start : start + block], stretch) for start in range(0, size, block)
                ]
        return [_joined(found) for found in zip(*blocks, strict=True)]

    def _check_queries(self, queries: Tensor) -> _Rows:
        return _Rows.checked("queries", queries, device=self.device, dim=self.dim)

    def _tensor(self, values: NDArray[np.int64]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=self.device)


class _Rows:
    """Checked rows with their norms."""

    def __init__(self, values: Tensor, norms: Tensor) -> None:
        self.values = values  # (n, d) float32 or float16
        self.norms = norms  # (n,) float64

    @classmethod
    def checked(cls, name: str, values: Tensor, device: torch.device | None = None, dim: int | None = None) -> _Rows:
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

    def take(self, rows: Tensor) -> _Rows:
        return _Rows(self.values[rows], self.norms[rows])

    def unit(self, start: int = 0, stop: int | None = None) -> Tensor:
        """Rows from ``start`` to ``stop`` divided by their norms, float32."""
        return (self.values[start:stop].double().mul_(self.norms[start:stop, None].reciprocal())).float()


class _Conditions:
    """What one call asks for."""

    def __init__(
        self,
        passages: _Rows,
        queries: _Rows,
        windows: list[ScoreWindow],
        positives: Lists,
        exclude: Lists | None,
        groups: NDArray[np.int64] | None,
        limit: float | None,
        bound: float,
    ) -> None:
        self.passages = passages
        self.queries = queries
        self.windows = windows
        self.positives = positives  # here and below: queries and rows, pair by pair
        self.exclude = exclude
        self.limit = limit
        self.bound = bound
        device = passages.values.device
        self.groups = None if groups is None else torch.tensor(groups, dtype=torch.int64, device=device)
        self.positive_groups: Lists | None = None
        if groups is not None:
            query, group = positives[0], groups[positives[1]]
            order = np.lexsort((group, query))
            query, group = query[order], group[order]
            new = np.ones(len(order), dtype=bool)
            new[1:] = (query[1:] != query[:-1]) | (group[1:] != group[:-1])
            self.positive_groups = query[new], group[new]


class _Block:
    """Some queries of a call, numbered from 0, and what is no candidate for them."""

    def __init__(self, conditions: _Conditions, members: NDArray[np.int64]) -> None:
        device = conditions.passages.values.device
        self.conditions = conditions
        self.passages = conditions.passages
        self.size = len(members)
        self.device = device
        self.queries = conditions.queries.take(torch.from_numpy(members).to(device))
        self.unit = self.queries.unit()
        number = np.full(len(conditions.queries.values), -1, dtype=np.int64)
        number[members] = np.arange(self.size)
        self.positives = _Pairs(number, conditions.positives, device)
        self.exclude = None if conditions.exclude is None else _Pairs(number, conditions.exclude, device)
        self.groups = None if conditions.positive_groups is None else _Pairs(number, conditions.positive_groups, device)

    def scores(self, unit: Tensor, start: int) -> Tensor:
        """(size, len(unit)) float32 cosines with the passages from ``start`` on; -inf for positives."""
        scores = self.unit @ unit.T
        self.positives.mask(scores, start)
        return scores

    def mask_excluded(self, scores: Tensor, start: int) -> None:
        """Excluded rows and the groups of positives: -inf."""
        if self.exclude is not None:
            self.exclude.mask(scores, start)
        if self.groups is None or self.conditions.groups is None:
            return
        # Each group of the chunk is one run of its sorted groups; only cells of runs that positives name are touched.
        groups, order = self.conditions.groups[start : start + scores.shape[1]].sort()
        first = torch.searchsorted(groups, self.groups.columns)
        length = torch.searchsorted(groups, self.groups.columns, right=True) - first
        pair = torch.repeat_interleave(length)
        within = torch.arange(len(pair), device=self.device) - (length.cumsum(0) - length)[pair]
        scores[self.groups.queries[pair], order[first[pair] + within]] = _NEVER

    def mask_near_positives(self, scores: Tensor, wanted: Tensor, unit: Tensor, start: int, limit: float) -> Tensor:
        """Cells of ``wanted`` whose passage is nearer to a positive than ``limit``: -inf.

        Returns:
            (size,) bool, which queries have such cells.
        """
        bound = self.conditions.bound
        at_limit = torch.tensor(limit, dtype=torch.float64, device=self.device)
        possible, sure = _under(at_limit - bound), _over(at_limit + bound)
        near = torch.zeros_like(wanted)
        for first in range(0, len(self.positives.queries), self.size):
            query = self.positives.queries[first : first + self.size]
            positive = self.positives.columns[first : first + self.size]
            cosines = self.passages.take(positive).unit() @ unit.T
            pair, column = ((cosines > possible) & wanted[query]).nonzero(as_tuple=True)
            value = cosines[pair, column]
            refused = value > sure
            doubtful = (~refused).nonzero(as_tuple=True)[0]
            left, right = positive[pair[doubtful]], column[doubtful] + start
            exact = _cosines(self.passages, left, self.passages, right)
            _verify(exact, value[doubtful], bound)
            refused[doubtful] = exact.double() > limit
            near[query[pair[refused]], column[refused]] = True
        scores.masked_fill_(near, _NEVER)
        return near.any(1)

    def exact(self, scores: Tensor, query: Tensor, column: Tensor, start: int) -> Tensor:
        """Scores (float32 values as float64) of some cells."""
        exact = _cosines(self.queries, query, self.passages, column + start)
        _verify(exact, scores[query, column], self.conditions.bound)
        return exact.double()


class _Pairs:
    """Queries of a block and their rows (or groups), pair by pair in order of the rows."""

    def __init__(self, number: NDArray[np.int64], pairs: Lists, device: torch.device) -> None:
        query, column = number[pairs[0]], pairs[1]
        query, column = query[query >= 0], column[query >= 0]
        order = np.argsort(column, kind="stable")
        self._sorted = column[order]
        self.queries = torch.from_numpy(query[order]).to(device)
        self.columns = torch.from_numpy(self._sorted).to(device)

    def mask(self, scores: Tensor, start: int) -> None:
        first, last = np.searchsorted(self._sorted, [start, start + scores.shape[1]]).tolist()
        scores[self.queries[first:last], self.columns[first:last] - start] = _NEVER


class _Best:
    """The best candidates of each query inside one window, over the passages seen so far."""

    def __init__(self, block: _Block, window: ScoreWindow, members: NDArray[np.int64]) -> None:
        self.num = window[0]
        self._block = block
        self._bound = block.conditions.bound
        self.above, self.below = (torch.from_numpy(limit[members]).to(block.device) for limit in window[1:])
        self._bounded = not bool(np.all(window[2] == np.inf))
        self.too_similar = torch.zeros(block.size, dtype=torch.int64, device=block.device)
        # Pairs in order of the queries, highest score first, ties by lower row; at most num for each query.
        self.query = torch.empty(0, dtype=torch.int64, device=block.device)
        self.row = self.query.clone()
        self.score = torch.empty(0, dtype=torch.float64, device=block.device)
        # The score of the last one where there are num of them.
        self.floor = torch.full((block.size,), _NEVER, dtype=torch.float64, device=block.device)

    def candidates(self, scores: Tensor) -> Tensor:
        """Cells that may be among the best."""
        # Rows only grow, so that a later row has to beat the floor, not just to reach it.
        lowest = _under(torch.maximum(self.above, self.floor) - self._bound)[:, None]
        return (scores > lowest) & (scores < _over(self.below + self._bound)[:, None])

    def count_too_similar(self, scores: Tensor, start: int) -> None:
        if not self._bounded:
            return
        sure = scores > _over(self.below + self._bound)[:, None]
        self.too_similar += sure.sum(1)
        query, column = (scores > _under(self.below - self._bound)[:, None]).logical_and_(~sure).nonzero(as_tuple=True)
        reached = self._block.exact(scores, query, column, start) >= self.below[query]
        self.too_similar += torch.bincount(query[reached], minlength=self._block.size)

    def add(self, scores: Tensor, start: int) -> None:
        """Takes the best of a chunk in, whose positives and other rows that are no candidates are -inf."""
        mask = self.candidates(scores)
        if self.num <= scores.shape[1] and int(mask.sum()) > 2 * self.num * self._block.size:
            mask &= scores > self._chunk_floor(scores)[:, None]
        query, column = mask.nonzero(as_tuple=True)
        score = self._block.exact(scores, query, column, start)
        inside = (score > self.above[query]) & (score < self.below[query])
        self._merge(query[inside], column[inside] + start, score[inside])

    def _chunk_floor(self, scores: Tensor) -> Tensor:
        """What candidates of the chunk must exceed: cells that do not are beaten by num others of the chunk."""
        inside = (scores > _over(self.above + self._bound)[:, None]) & (
            scores < _under(self.below - self._bound)[:, None]
        )
        # These num cells are in the window for sure and score at least the lowest of them less the bound; a cell with
        # that score may be found another bound below.
        best = torch.where(inside, scores, _NEVER).topk(self.num, dim=1, sorted=False).values
        return _under(best.min(1).values.double() - 2 * self._bound)

    def _merge(self, query: Tensor, row: Tensor, score: Tensor) -> None:
        query, row, score = (torch.cat(pair) for pair in ((self.query, query), (self.row, row), (self.score, score)))
        # One stable sort: rows stand in ascending order within equal scores already, as those that came are higher.
        order = ((query << 32) + (2**31 - 1 - _ordered(score))).sort(stable=True).indices
        query, row, score = query[order], row[order], score[order]
        number = torch.bincount(query, minlength=self._block.size)
        first = number.cumsum(0) - number
        keep = torch.arange(len(query), device=query.device) - first[query] < self.num
        full = (number >= self.num).nonzero(as_tuple=True)[0]
        self.floor[full] = score[first[full] + self.num - 1]
        self.query, self.row, self.score = query[keep], row[keep], score[keep]

    def found(self) -> tuple[Tensor, Tensor, Tensor]:
        """Rows (size, num), scores (size, num) and how many there are (size,)."""
        number = torch.bincount(self.query, minlength=self._block.size)
        rank = torch.arange(len(self.query), device=self.query.device) - (number.cumsum(0) - number)[self.query]
        shape = (self._block.size, self.num)
        rows = torch.full(shape, -1, dtype=torch.int64, device=self.query.device)
        scores = torch.full(shape, math.nan, dtype=torch.float32, device=self.query.device)
        rows[self.query, rank] = self.row
        scores[self.query, rank] = self.score.float()
        return rows, scores, number


def _joined(blocks: Sequence[Found]) -> Found:
    rows, scores, too_similar, near_positive = zip(*blocks, strict=True)
    return np.concatenate(rows), np.concatenate(scores), np.concatenate(too_similar), np.concatenate(near_positive)


def _mine_block(conditions: _Conditions, members: NDArray[np.int64], stretch: int) -> list[Found]:
    """The results of some queries, ``stretch`` passages at a time."""
    block = _Block(conditions, members)
    best = [_Best(block, window, members) for window in conditions.windows]
    refused = torch.zeros(block.size, dtype=torch.bool, device=block.device)
    for start in range(0, len(block.passages.values), stretch):
        unit = block.passages.unit(start, start + stretch)
        scores = block.scores(unit, start)
        for one in best:
            one.count_too_similar(scores, start)
        block.mask_excluded(scores, start)
        if conditions.limit is not None and len(block.positives.queries) > 0:
            wanted = torch.zeros(scores.shape, dtype=torch.bool, device=block.device)
            for one in best:
                wanted |= one.candidates(scores)
            refused |= block.mask_near_positives(scores, wanted, unit, start, conditions.limit)
        for one in best:
            one.add(scores, start)
    found = [one.found() for one in best]
    near = [torch.zeros(block.size, dtype=torch.int64, device=block.device) for _ in best]
    if bool(refused.any()):
        _count_near(conditions, members, stretch, refused.nonzero(as_tuple=True)[0], found, near)
    return [
        (rows.cpu().numpy(), scores.cpu().numpy(), one.too_similar.cpu().numpy(), count.cpu().numpy())
        for one, (rows, scores, _), count in zip(best, found, near, strict=True)
    ]


def _count_near(
    conditions: _Conditions,
    members: NDArray[np.int64],
    stretch: int,
    which: Tensor,
    found: list[tuple[Tensor, Tensor, Tensor]],
    near: list[Tensor],
) -> None:
    """Sets near_positive for the queries ``which`` of a block, in a second pass.

    What ranks before the last result and is inside the window was either returned or refused as too near to a positive.
    """
    members = members[which.cpu().numpy()]
    block = _Block(conditions, members)
    ends = [
        _End(block, window, members, *(tensor[which] for tensor in one))
        for window, one in zip(conditions.windows, found, strict=True)
    ]
    for start in range(0, len(block.passages.values), stretch):
        scores = block.scores(block.passages.unit(start, start + stretch), start)
        block.mask_excluded(scores, start)
        for end in ends:
            end.count(scores, start)
    for end, count in zip(ends, near, strict=True):
        count[which] = end.not_returned()


class _End:
    """Counts the rows inside a window that rank before the last result, or all of them if results are too few."""

    def __init__(
        self,
        block: _Block,
        window: ScoreWindow,
        members: NDArray[np.int64],
        rows: Tensor,
        scores: Tensor,
        number: Tensor,
    ) -> None:
        self._block = block
        self._bound = block.conditions.bound
        self._above, self._below = (torch.from_numpy(limit[members]).to(block.device) for limit in window[1:])
        full = number == window[0]
        self._returned = number - full.long()
        self._row = rows[:, -1]
        self._score = scores[:, -1].double().masked_fill(~full, _NEVER)
        self._number = torch.zeros_like(number)

    def count(self, scores: Tensor, start: int) -> None:
        lowest = torch.maximum(self._above, self._score)
        sure = (scores > _over(lowest + self._bound)[:, None]) & (scores < _under(self._below - self._bound)[:, None])
        self._number += sure.sum(1)
        possible = (scores > _under(lowest - self._bound)[:, None]) & (
            scores < _over(self._below + self._bound)[:, None]
        )
        query, column = (possible & ~sure).nonzero(as_tuple=True)
        score = self._block.exact(scores, query, column, start)
        inside = (score > self._above[query]) & (score < self._below[query])
        last = self._score[query]
        before = (score > last) | ((score == last) & (column + start < self._row[query]))
        self._number += torch.bincount(query[inside & before], minlength=self._block.size)

    def not_returned(self) -> Tensor:
        return self._number - self._returned


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Dot products of the rows of a and b, float64, added in the order that defines scores (the core's `dot_f64`).

    Products of float32 are exact in double precision. Column c goes to sum c mod 16, in order of the columns, and the
    sums are folded in halves.
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


def _cosines(a: _Rows, a_rows: Tensor, b: _Rows, b_rows: Tensor) -> Tensor:
    """Scores of pairs of rows, float32: what the core's `cosine` returns, bit for bit."""
    scores = torch.empty(len(a_rows), dtype=torch.float32, device=a.values.device)
    step = _pair_step(a.values.shape[1])
    for first in range(0, len(a_rows), step):
        left, right = a_rows[first : first + step], b_rows[first : first + step]
        dot = _dot(a.values[left], b.values[right])
        # Adding zero makes -0.0, which an underflow leaves, the 0.0 that it equals.
        scores[first : first + step] = (dot / (a.norms[left] * b.norms[right])).float() + 0.0
    return scores


def _norms(name: str, values: Tensor) -> Tensor:
    """Norms of all rows, float64; refuses the first row that is not finite or all zeros."""
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


def _verify(exact: Tensor, approximate: Tensor, bound: float) -> None:
    """A device whose products are off by more than :func:`error_bound` must not decide anything."""
    if len(exact) == 0:
        return
    worst = float((exact.double() - approximate.double()).abs().max())
    if not worst <= bound:
        raise RuntimeError(
            f"scores: expected float32 products on {exact.device} to be exact to {bound:.3g}, as IEEE arithmetic makes "
            f"them, got one that is off by {worst:.3g}"
        )


# Limits of the first pass. All its cosines lie between -2 and 2, so cutting limits there changes no comparison and
# keeps -inf for cells that are no candidates. One step beyond what rounds to float32 is on the safe side of the limit.


def _under(limit: Tensor) -> Tensor:
    """A float32 below ``limit``."""
    limit = limit.clamp(-2, 2).float()
    return torch.nextafter(limit, torch.full_like(limit, -math.inf))


def _over(limit: Tensor) -> Tensor:
    """A float32 above ``limit``."""
    limit = limit.clamp(-2, 2).float()
    return torch.nextafter(limit, torch.full_like(limit, math.inf))


def _ordered(scores: Tensor) -> Tensor:
    """Integers of 32 bits, as int64, in the order of scores."""
    bits = scores.float().view(torch.int32)
    return torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).long()


def _checked_windows(lists: Sequence[ScoreWindow], size: int, rows: int) -> list[ScoreWindow]:
    if not lists:
        raise ValueError("lists: expected at least one list of negatives, got none")
    windows = []
    for num, *limits in lists:
        if not 1 <= num <= rows:
            raise ValueError(f"num: expected a number from 1 to {rows}, the number of passages, got {num}")
        above, below = (np.ascontiguousarray(limit, dtype=np.float64) for limit in limits)
        for limit in (above, below):
            if limit.shape != (size,):
                raise ValueError(f"windows: expected {size}, one for each query, got {limit.size}")
        unknown = np.flatnonzero(np.isnan(above) | np.isnan(below))
        if len(unknown) > 0:
            raise ValueError(f"windows: expected numbers as limits, got NaN for query {unknown[0]}")
        windows.append((num, above, below))
    return windows


def _pairs(name: str, lists: Lists, size: int, rows: int) -> Lists:
    """Queries and rows, pair by pair, of lists of rows that are checked."""
    starts, named = (np.ascontiguousarray(part, dtype=np.int64) for part in lists)
    if len(starts) != size + 1:
        raise ValueError(f"{name}: expected {size} lists, one for each query, got {len(starts) - 1}")
    if starts[0] != 0 or starts[-1] != len(named) or np.any(starts[1:] < starts[:-1]):
        raise ValueError(f"{name}: expected starts that rise from 0 to {len(named)}, the number of rows")
    queries = np.repeat(np.arange(size, dtype=np.int64), np.diff(starts))
    wrong = np.flatnonzero((named < 0) | (named >= rows))
    if len(wrong) > 0:
        query, row = queries[wrong[0]], named[wrong[0]]
        raise ValueError(f"{name}: query {query} names the row {row}, expected a row from 0 to {rows - 1}")
    return queries, named


def _budget(device: torch.device) -> int:
    """Bytes that a chunk and what is made of it may take."""
    if device.type != "cuda":
        return _DEFAULT_BUDGET
    free, _ = torch.cuda.mem_get_info(device)
    # What torch keeps for itself and does not use at the moment is free as well.
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return min(free // 4, _MAX_BUDGET)


def _chunk_shape(queries: int, dim: int, device: torch.device) -> tuple[int, int]:
    """Queries and passages of a chunk: half of the budget is for its cells, the rest for rows."""
    half = _budget(device) // 2
    cells = max(1, half // _CELL_BYTES)
    rows = max(1, half // (2 * _VALUE_BYTES * dim))
    block = max(1, min(queries, rows, math.isqrt(cells)))
    return block, max(1, min(rows, cells // block))


def _pair_step(dim: int) -> int:
    """Pairs of rows that are scored exactly at a time."""
    return max(1, _PAIR_BUDGET // (8 * dim + 4 * 8 * _LANES))


@contextmanager
def _exact_products(device: torch.device) -> Iterator[None]:
    """Matrix products of float32 in float32: no TF32, no bfloat16, no autocast. Everything is as before afterwards."""
    # torch 2.9 keeps a setting for each operation beside the old one for all; reading the old one fails where they
    # contradict each other, so they are made to agree first.
    operations = [
        backend.matmul
        for backend in (torch.backends.cuda, torch.backends.mkldnn)
        if hasattr(backend, "matmul") and hasattr(backend.matmul, "fp32_precision")
    ]
    before = [operation.fp32_precision for operation in operations]
    precision = None
    try:
        for operation in operations:
            operation.fp32_precision = "ieee"
        precision = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        if precision is not None:
            torch.set_float32_matmul_precision(precision)
        for operation, value in zip(operations, before, strict=True):
            # "none" takes what holds for all operations; if that is the same, it was not set for this one.
            operation.fp32_precision = "none"
            if operation.fp32_precision != value:
                operation.fp32_precision = value
