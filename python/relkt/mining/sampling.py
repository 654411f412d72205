"""Seeded samples of ranked candidates, independent of the backend and of batching."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def draw(counts: NDArray[np.int64], columns: int, num: int, *, seed: int, first_query: int) -> NDArray[np.int64]:
    """Draws a uniform random sample of ``num`` of each query's candidates.

    A query's sample depends only on the seed, the query's position and its number of candidates.

    Args:
        counts: (q,) Number of candidates of each query, at most ``columns``.
        columns: Number of columns of the table of candidates.
        num: Size of the sample.
        seed: An integer of at most 64 bits.
        first_query: Position of the first query.

    Returns:
        (q, num) int64: the columns of the sampled candidates in ascending order, then -1 for missing candidates.
    """
    ranks = np.arange(columns, dtype=np.uint64)
    queries = np.arange(first_query, first_query + len(counts), dtype=np.uint64)
    keys = _mixed(_mixed(_mixed(np.array([seed], dtype=np.uint64)) ^ queries)[:, None] ^ ranks)
    # The candidates with the smallest keys are drawn; columns without a candidate sort last.
    keys = np.where(ranks < counts[:, None].astype(np.uint64), keys >> np.uint64(1), np.uint64(2**64 - 1))
    drawn = np.sort(np.argsort(keys, axis=1, kind="stable")[:, :num].astype(np.int64), axis=1)
    drawn = np.where(drawn < counts[:, None], drawn, -1)
    result = np.full((len(counts), num), -1, dtype=np.int64)
    result[:, : drawn.shape[1]] = drawn
    return result


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, 2014): every output bit depends on every input bit."""
    with np.errstate(over="ignore"):
        values = values + np.uint64(0x9E3779B97F4A7C15)
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return values ^ (values >> np.uint64(31))
