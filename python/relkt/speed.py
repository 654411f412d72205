"""Search speed on this machine, compared with other installed libraries."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relkt.arrays import Embeddings
from relkt.index import Index

Search = Callable[[NDArray[np.float32], int], NDArray[np.int64]]

SECONDS = 0.5
"""Minimum number of seconds for which a search is repeated; each search runs at least three times."""
PEERS = ("relkt", "NumPy", "faiss")


@dataclass(frozen=True)
class Timing:
    """The time of one search.

    Args:
        system: The library, one of :data:`PEERS`.
        queries: Number of queries per call.
        seconds: Median time of a call.
        agreement: Share of results that equal relkt's; below 1 if a peer rounds differently.
    """

    system: str
    queries: int
    seconds: float
    agreement: float


def random_rows(rows: int, dim: int, *, seed: int = 0) -> NDArray[np.float32]:
    """(rows, dim) float32 unit rows in random directions. They are the hardest data for a search that skips rows."""
    generator = np.random.default_rng(seed)
    drawn = generator.standard_normal((rows, dim), dtype=np.float32)
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    return drawn


def time_search(
    index: Index, queries: Embeddings, *, counts: Sequence[int], k: int, threads: int | None = None
) -> Iterator[Timing]:
    """Time the search of an index, and of the same rows with NumPy and, if installed, with faiss.

    Args:
        index: The index. The peers search a copy of its rows in memory, scaled to length 1.
        queries: (q, d) Queries, at least as many as the largest of ``counts``.
        counts: Numbers of queries per call.
        k: Number of results per query.
        threads: Number of threads of relkt and faiss. NumPy uses the number of threads of its BLAS.

    Yields:
        A :class:`Timing` for each system and count.

    Raises:
        ValueError: If there are fewer queries than the largest of ``counts``; also as :meth:`Index.search`.
    """
    if len(queries) < max(counts):
        raise ValueError(f"queries: expected at least {max(counts)}, got {len(queries)}")
    rows = _unit(index.embeddings())
    asked = _unit(queries)
    with _systems(index, rows, threads) as systems:
        for count in counts:
            batch = asked[:count]
            expected = systems["relkt"](batch, k)
            for name, search in systems.items():
                found = search(batch, k)
                same = [len(np.intersect1d(a, b)) / k for a, b in zip(expected, found, strict=True)]
                yield Timing(name, count, _median_seconds(search, batch, k), float(np.mean(same)))


def _median_seconds(search: Search, queries: NDArray[np.float32], k: int) -> float:
    taken: list[float] = []
    while len(taken) < 3 or sum(taken) < SECONDS:
        started = time.perf_counter()
        search(queries, k)
        taken.append(time.perf_counter() - started)
    return float(np.median(taken))


@contextmanager
def _systems(index: Index, rows: NDArray[np.float32], threads: int | None) -> Iterator[dict[str, Search]]:
    systems: dict[str, Search] = {
        "relkt": lambda queries, k: index.search(queries, k, threads=threads).indices,
        "NumPy": lambda queries, k: _numpy_search(queries, rows, k),
    }
    if find_spec("faiss") is None:
        yield systems
        return
    import faiss

    flat = faiss.IndexFlatIP(rows.shape[1])
    flat.add(rows)
    systems["faiss"] = lambda queries, k: flat.search(queries, k)[1]
    before = faiss.omp_get_max_threads()
    if threads is not None:
        faiss.omp_set_num_threads(threads)
    try:
        yield systems
    finally:
        faiss.omp_set_num_threads(before)


def _numpy_search(queries: NDArray[np.float32], rows: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    scores = queries @ rows.T
    if k < scores.shape[1]:
        best = np.argpartition(scores, -k, axis=1)[:, -k:]
    else:
        best = np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1, kind="stable")
    found: NDArray[np.int64] = np.take_along_axis(best, order, axis=1)
    return found


def _unit(rows: Any) -> NDArray[np.float32]:
    single = np.asarray(rows, dtype=np.float32)
    unit: NDArray[np.float32] = single / np.linalg.norm(single, axis=1, keepdims=True)
    return unit
