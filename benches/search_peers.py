"""The peers of compare_search.py, each in its own process."""

from __future__ import annotations

import multiprocessing as mp
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from search_data import Data

Found = tuple[np.ndarray, np.ndarray]
Search = Callable[[np.ndarray, int], Any]
Unpack = Callable[[Any], Found]

# Peer -> modules that it requires.
MODULES = {
    "relkt": ("relkt",),
    "faiss-tuned": ("faiss",),
    "faiss": ("faiss",),
    "numpy": ("numpy",),
    "torch": ("torch",),
    "usearch": ("usearch",),
    "sentence-transformers": ("sentence_transformers",),
}
PEERS = tuple(MODULES)
BLAS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
# Largest difference of two float32 sums of the same products.
TOLERANCE = 2e-5


def use_faiss(passages: np.ndarray, threads: int, tuned: bool) -> tuple[Search, Unpack]:
    import faiss

    faiss.omp_set_num_threads(threads)
    flat = faiss.IndexFlatIP(passages.shape[1])
    flat.add(passages)

    def search(queries: np.ndarray, k: int) -> Found:
        if tuned:
            faiss.cvar.distance_compute_blas_threshold = 20 if len(queries) == 1 else 1
        return flat.search(queries, k)

    return search, tuple


def use_numpy(passages: np.ndarray, threads: int) -> tuple[Search, Unpack]:  # noqa: ARG001 - its BLAS reads the environment
    def search(queries: np.ndarray, k: int) -> Found:
        scores = queries @ passages.T
        best = np.argpartition(scores, -k, axis=1)[:, -k:]
        found = np.take_along_axis(scores, best, axis=1)
        order = np.argsort(-found, axis=1)
        return np.take_along_axis(found, order, axis=1), np.take_along_axis(best, order, axis=1)

    return search, tuple


def use_torch(passages: np.ndarray, threads: int) -> tuple[Search, Unpack]:
    import torch

    torch.set_num_threads(threads)
    stored = torch.from_numpy(passages)

    def search(queries: np.ndarray, k: int) -> Any:
        return torch.topk(torch.from_numpy(queries) @ stored.T, k)

    return search, lambda top: (top.values.numpy(), top.indices.numpy())


def use_usearch(passages: np.ndarray, threads: int) -> tuple[Search, Unpack]:
    from usearch.index import MetricKind
    from usearch.index import search as exact

    def search(queries: np.ndarray, k: int) -> Any:
        return exact(passages, queries, k, MetricKind.IP, exact=True, threads=threads)

    def unpack(matches: Any) -> Found:
        shape = (-1, matches.keys.shape[-1])
        return 1 - matches.distances.reshape(shape), matches.keys.reshape(shape).astype(np.int64)

    return search, unpack


def use_sentence_transformers(passages: np.ndarray, threads: int) -> tuple[Search, Unpack]:
    import torch
    from sentence_transformers.util import dot_score, semantic_search

    torch.set_num_threads(threads)
    stored = torch.from_numpy(passages)

    def search(queries: np.ndarray, k: int) -> Any:
        return semantic_search(torch.from_numpy(queries), stored, top_k=k, score_function=dot_score)

    def unpack(found: Any) -> Found:
        scores = [[hit["score"] for hit in hits] for hits in found]
        return np.array(scores), np.array([[hit["corpus_id"] for hit in hits] for hits in found])

    return search, unpack


OTHERS = {
    "faiss-tuned": partial(use_faiss, tuned=True),
    "faiss": partial(use_faiss, tuned=False),
    "numpy": use_numpy,
    "torch": use_torch,
    "usearch": use_usearch,
    "sentence-transformers": use_sentence_transformers,
}


def time_of(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


class Relkt:
    """relkt, with measurements that only it has."""

    def __init__(self, data: Data, threads: int) -> None:
        import relkt

        self.data, self.threads = data, threads
        self.index = relkt.Index(np.load(data.passages_file), threads=threads)

    def search(self, queries: np.ndarray, k: int) -> Any:
        return self.index.search(queries, k, threads=self.threads)

    def scored(self, queries: np.ndarray, k: int) -> float:
        """Mean number of rows scored exactly per query."""
        return float(self.index._passages.search_counted(queries, k, None, self.threads)[2].mean())

    def limits(self) -> dict[str, float]:
        """Peaks of this machine: bytes read and operations on 8-bit codes, in 10^9 per second."""
        from relkt import _relkt

        return dict(_relkt.limits(self.threads))

    def building(self, repeats: int) -> float:
        """Median seconds to build an index of rows in memory."""
        import relkt

        passages = np.load(self.data.passages_file)
        times = [time_of(lambda: relkt.Index(passages, threads=self.threads))[0] for _ in range(repeats)]
        return statistics.median(times)

    def opened(self, asked: np.ndarray, numbers: list[int], k: int, repeats: int) -> dict[int, tuple[float, float]]:
        """Number of queries -> median seconds of a search in memory, and in an opened file with warm pages."""
        import relkt

        path = self.data.passages_file.with_suffix(".relkt")
        self.index.save(path)
        try:
            opened = relkt.Index.open(path)
            seconds = {}
            for queries in numbers:
                times: dict[Any, list[float]] = {self.index: [], opened: []}
                for index in [*times] * (repeats + 1):
                    times[index].append(time_of(partial(index.search, asked[:queries], k, threads=self.threads))[0])
                memory, file = (statistics.median(took[1:]) for took in times.values())
                seconds[queries] = (memory, file)
            return seconds
        finally:
            path.unlink()


def work(peer: str, data: Data, threads: int, pipe: Connection) -> None:
    """Answers messages until None: ("search", queries, k, wanted) with (seconds, hits); relkt also answers others."""
    asked = np.load(data.asked_file)
    if peer == "relkt":
        relkt = Relkt(data, threads)
        search, unpack = relkt.search, tuple
    else:
        search, unpack = OTHERS[peer](np.load(data.passages_file), threads)
    pipe.send("ready")
    while (message := pipe.recv()) is not None:
        match message:
            case ("search", queries, k, wanted):
                seconds, found = time_of(lambda q=queries, k=k: search(asked[:q], k))
                pipe.send((seconds, unpack(found) if wanted else None))
            case ("scored", queries, k):
                pipe.send(relkt.scored(asked[:queries], k))
            case ("limits",):
                pipe.send(relkt.limits())
            case ("building", repeats):
                pipe.send(relkt.building(repeats))
            case ("opened", numbers, k, repeats):
                pipe.send(relkt.opened(asked, numbers, k, repeats))


class Ended(SystemExit):
    """The process of a peer ended before it answered."""


class Worker:
    """The process of a peer, which runs ``work``."""

    def __init__(self, peer: str, data: Any, threads: int, work: Callable[..., None] = work) -> None:
        self.peer = peer
        context = mp.get_context("spawn")
        self.pipe, there = context.Pipe()
        self.process = context.Process(target=work, args=(peer, data, threads, there), daemon=True)
        before = dict(os.environ)
        # BLAS and OpenMP read these variables at import.
        os.environ.update(dict.fromkeys(BLAS, str(threads)))
        if peer.endswith("faiss-tuned"):
            os.environ["OPENBLAS_CORETYPE"] = "SkylakeX"
        try:
            self.process.start()
        finally:
            os.environ.clear()
            os.environ.update(before)
            there.close()

    def answer(self) -> Any:
        try:
            return self.pipe.recv()
        except EOFError:
            raise Ended(f"{self.peer}: the process ended early, see above") from None

    def ask(self, *message: Any) -> Any:
        self.pipe.send(message)
        return self.answer()

    def stop(self) -> None:
        self.pipe.send(None)
        self.process.join()


def start(peers: list[str], data: Data, threads: int) -> dict[str, Worker]:
    """Starts a process for each peer, and waits until its index is built."""
    workers = {peer: Worker(peer, data, threads) for peer in peers}
    for worker in workers.values():
        worker.answer()
    return workers


def check(peer: str, expected: Found, hits: Found) -> None:
    """Raises SystemExit if a peer found other rows than relkt, except for scores that are equal in float32."""
    (scores, rows), (got, found) = expected, hits
    if scores.shape != got.shape or rows.shape != found.shape:
        raise SystemExit(f"{peer}: expected results of shape {scores.shape}, got {got.shape}")
    if not np.allclose(scores, got, rtol=0, atol=TOLERANCE):
        raise SystemExit(f"{peer}: scores differ from relkt's by {np.abs(scores - got).max()}")
    for query in np.flatnonzero((rows != found).any(axis=1)):
        known = dict(zip(rows[query].tolist(), scores[query].tolist(), strict=True))
        if len(set(found[query].tolist())) < found.shape[1]:
            raise SystemExit(f"{peer}: query {query} has a row more than once")
        for row, score in zip(found[query].tolist(), got[query].tolist(), strict=True):
            # A row that relkt does not return must not score above relkt's last row.
            if abs(known.get(row, min(score, float(scores[query, -1]))) - score) > TOLERANCE:
                raise SystemExit(f"{peer}: query {query} has row {row} with score {score}, which relkt does not return")
