"""The peers of compare_mine.py, each in a process of its own."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import io
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from mine_data import CASES, Case, MiningData
from search_peers import time_of

# Peers and the modules they need.
MODULES = {
    "relkt": ("relkt",),
    "relkt-dataset": ("relkt", "datasets"),
    "st-faiss-tuned": ("sentence_transformers", "datasets", "faiss"),
    "st-faiss": ("sentence_transformers", "datasets", "faiss"),
    "st-torch": ("sentence_transformers", "datasets"),
    "flag-faiss-tuned": ("faiss",),
    "flag-faiss": ("faiss",),
}
PEERS = tuple(MODULES)
# Line that sentence-transformers prints after selecting negatives, before it makes a data set.
MINED = "Negative candidates mined"
QUERY, PASSAGE = "query ", "passage "
# Number of queries, and number of passages, in the warm-up run.
WARM_UP = 256
# Number of queries per search in FlagEmbedding's procedure.
FLAG_BATCH = 64


@dataclass
class Mined:
    """Result of a peer: seconds to choose the negatives, and its output, unchanged."""

    selecting: float
    result: Any


@dataclass(frozen=True)
class Inputs:
    """Queries (q, d), passages (n, d) and the row of each query's positive (q,)."""

    queries: np.ndarray
    passages: np.ndarray
    positives: np.ndarray

    def few(self) -> Inputs:
        """Some of the queries and their positives."""
        few = min(WARM_UP, len(self.queries))
        return Inputs(self.queries[:few], self.passages[self.positives[:few]], np.arange(few))


Mine = Callable[[Case], Mined]


class Relkt:
    """relkt.mine, on arrays."""

    def __init__(self, inputs: Inputs, threads: int) -> None:
        self.inputs, self.threads = inputs, threads
        self.index: Any = None

    def mine(self, case: Case) -> Mined:
        import relkt

        given = self.inputs
        arguments = {**case.arguments("strategy"), "threads": self.threads}
        seconds, mined = time_of(lambda: relkt.mine(given.queries, given.passages, given.positives, **arguments))
        return Mined(seconds, mined)

    def window(self, case: Case) -> float:
        """Time of mining on a prepared index / time of a plain search for the same number of passages, right after."""
        import relkt

        given = self.inputs
        if self.index is None:
            self.index = relkt.Index(given.passages, threads=self.threads)
        arguments = {**case.arguments("strategy"), "threads": self.threads}
        mining = time_of(lambda: relkt.mine(given.queries, self.index, given.positives, **arguments))[0]
        return mining / time_of(lambda: self.index.search(given.queries, case.ranked, threads=self.threads))[0]

    @staticmethod
    def rows(mined: Any, case: Case) -> np.ndarray:  # noqa: ARG004 - as other peers
        return np.asarray(mined.indices)

    @staticmethod
    def nbytes(mined: Any) -> int:
        arrays = [*vars(mined).values(), *vars(mined.skipped).values()]
        return sum(array.nbytes for array in arrays if isinstance(array, np.ndarray))


class Prepared:
    """Stands in for a SentenceTransformer whose embeddings are known: encoding takes no time."""

    def __init__(self, inputs: Inputs) -> None:
        import torch
        from sentence_transformers.util import cos_sim, pairwise_cos_sim

        self.inputs = inputs
        self.similarity, self.similarity_pairwise = cos_sim, pairwise_cos_sim
        self.similarity_fn_name = "cosine"
        self.device = torch.device("cpu")
        self.prompts: dict[str, str] = {}
        self.model_card_data = SimpleNamespace(base_model=None)
        self.encoded_at = 0.0

    def get_embedding_dimension(self) -> int:
        return self.inputs.passages.shape[1]

    def encode_query(self, texts: list[str], **_: Any) -> np.ndarray:
        return self._known(texts, self.inputs.queries)

    def encode_document(self, texts: list[str], **_: Any) -> np.ndarray:
        return self._known(texts, self.inputs.passages)

    def _known(self, texts: list[str], embeddings: np.ndarray) -> np.ndarray:
        if len(texts) != len(embeddings):
            raise SystemExit(f"asked to encode {len(texts)} texts, expected all {len(embeddings)}")
        self.encoded_at = time.perf_counter()
        return embeddings


class Clock(io.TextIOBase):
    """A standard output that records the time at which the negatives are selected."""

    mined_at: float | None = None

    def write(self, text: str) -> int:
        if MINED in text:
            self.mined_at = time.perf_counter()
        return len(text)


class Datasets:
    """A call like sentence-transformers' mine_hard_negatives, from texts to a data set of triplets.

    The selection starts when the stand-in has returned the last embeddings, and ends when the call prints that
    negatives are mined.
    """

    def __init__(self, call: Callable[..., Any], inputs: Inputs) -> None:
        from datasets import Dataset

        self.call, self.model = call, Prepared(inputs)
        self.corpus = [f"{PASSAGE}{row}" for row in range(len(inputs.passages))]
        anchors = [f"{QUERY}{query}" for query in range(len(inputs.queries))]
        positives = [self.corpus[row] for row in inputs.positives.tolist()]
        self.pairs = Dataset.from_dict({"anchor": anchors, "positive": positives})

    def mine(self, case: Case) -> Mined:
        clock = Clock()
        # Progress bars go to standard error.
        with contextlib.redirect_stdout(clock), contextlib.redirect_stderr(io.StringIO()):
            dataset = self.call(self.pairs, self.model, corpus=self.corpus, **case.arguments())
        if clock.mined_at is None:
            raise SystemExit(f"the call printed no line with {MINED!r}")
        return Mined(clock.mined_at - self.model.encoded_at, dataset)

    def rows(self, dataset: Any, case: Case) -> np.ndarray:
        queries = [int(text.removeprefix(QUERY)) for text in dataset["anchor"]]
        return table_of(
            queries, [int(text.removeprefix(PASSAGE)) for text in dataset["negative"]], len(self.pairs), case
        )

    @staticmethod
    def nbytes(dataset: Any) -> int:
        return int(dataset.data.nbytes)


class FlagEmbedding:
    """The procedure that FlagEmbedding publishes as hn_mine, reimplemented from its description.

    It searches an exact faiss index of the corpus up to the end of the range, 64 queries at a time. Of the passages in
    the range, it drops those with the text of a positive or of the query, and draws negatives from the rest. There are
    no conditions on scores. If the range has too few passages, the original draws more from the whole corpus; here
    these negatives count as missing.
    """

    def __init__(self, inputs: Inputs) -> None:
        self.inputs = inputs
        self.corpus = [f"{PASSAGE}{row}" for row in range(len(inputs.passages))]
        self.asked = [f"{QUERY}{query}" for query in range(len(inputs.queries))]

    def mine(self, case: Case) -> Mined:
        return Mined(*time_of(lambda: self._mine(case)))

    def _mine(self, case: Case) -> list[list[int]]:
        import faiss

        index = faiss.IndexFlatIP(self.inputs.passages.shape[1])
        index.add(self.inputs.passages)
        best: list[list[int]] = []
        for start in range(0, len(self.asked), FLAG_BATCH):
            best.extend(index.search(self.inputs.queries[start : start + FLAG_BATCH], case.ranked)[1].tolist())
        draw = random.Random(0)
        negatives = []
        for query, positive, ranked in zip(self.asked, self.inputs.positives.tolist(), best, strict=True):
            unwanted = (self.corpus[positive], query)
            left = [row for row in ranked[case.range_min :] if row >= 0 and self.corpus[row] not in unwanted]
            negatives.append(draw.sample(left, case.num_negatives) if len(left) > case.num_negatives else left)
        return negatives

    @staticmethod
    def rows(negatives: list[list[int]], case: Case) -> np.ndarray:
        queries = [query for query, found in enumerate(negatives) for _ in found]
        return table_of(queries, [row for found in negatives for row in found], len(negatives), case)

    @staticmethod
    def nbytes(negatives: list[list[int]]) -> int:
        return sum(8 * len(found) for found in negatives)


def table_of(queries: list[int], rows: list[int], count: int, case: Case) -> np.ndarray:
    """(count, num_negatives) int64, each query's rows in the order found, padded with -1."""
    found = np.bincount(queries, minlength=count)
    table = np.full((count, case.num_negatives), -1)
    table[np.arange(case.num_negatives) < found[:, None]] = np.array(rows)[np.argsort(queries, kind="stable")]
    return table


def open_peer(peer: str, inputs: Inputs, threads: int) -> Relkt | Datasets | FlagEmbedding:
    if peer == "relkt":
        return Relkt(inputs, threads)
    if "faiss" in peer:
        import faiss

        faiss.omp_set_num_threads(threads)
        if peer.endswith("tuned"):
            faiss.cvar.distance_compute_blas_threshold = 1
    if peer.startswith("flag"):
        return FlagEmbedding(inputs)
    import torch

    torch.set_num_threads(threads)
    if peer == "relkt-dataset":
        import relkt

        return Datasets(relkt.mine_hard_negatives, inputs)
    from sentence_transformers.util import mine_hard_negatives

    return Datasets(partial(mine_hard_negatives, use_faiss="faiss" in peer), inputs)


class Memory:
    """Peak resident memory of this process beyond the memory at creation of this object; Linux only."""

    STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")

    def __init__(self) -> None:
        self.known = self.STATUS.exists() and os.access(self.CLEAR, os.W_OK)
        self.reset()
        self.before = self._peak()

    def reset(self) -> None:
        """Returns free memory to the system, and resets the peak."""
        gc.collect()
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
        if self.known:
            # Sets the peak to the current resident memory.
            self.CLEAR.write_text("5")

    def beyond(self) -> int | None:
        return self._peak() - self.before if self.known else None

    def _peak(self) -> int:
        lines = self.STATUS.read_text().splitlines() if self.known else ["VmHWM: 0 kB"]
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def work(peer: str, data: MiningData, threads: int, pipe: Connection) -> None:
    """Answers messages until told to stop.

    ("mine", case, with_rows): a dictionary of seconds, bytes and rows. relkt also answers ("ranked", case): the rows
    and scores from which a random sample is drawn; and ("window", case): a ratio.
    """
    if hasattr(os, "sched_setaffinity"):
        # For calls without a parameter for the number of threads.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    asked, positives = (np.load(file)[: data.queries] for file in (data.asked_file, data.positives_file))
    inputs = Inputs(asked, np.load(data.passages_file), positives)
    for case in CASES.values():
        open_peer(peer, inputs.few(), threads).mine(case)
    opened = open_peer(peer, inputs, threads)
    memory = Memory()
    pipe.send("ready")
    while (message := pipe.recv()) is not None:
        match message:
            case ("mine", case, wanted):
                memory.reset()
                whole, mined = time_of(lambda case=case: opened.mine(case))
                beyond, output = memory.beyond(), opened.nbytes(mined.result)
                found = opened.rows(mined.result, case) if wanted else None
                pipe.send(
                    {
                        "selecting": mined.selecting,
                        "whole": whole,
                        "memory": None if beyond is None else max(beyond - output, 0),
                        "output": output,
                        "rows": found,
                        "scores": mined.result.scores if wanted and isinstance(opened, Relkt) else None,
                    }
                )
                del mined
            case ("ranked", case):
                assert isinstance(opened, Relkt)
                mined = opened.mine(case.all_ranked())
                pipe.send((mined.result.indices, mined.result.scores))
                del mined
            case ("window", case):
                assert isinstance(opened, Relkt)
                pipe.send(opened.window(case))
