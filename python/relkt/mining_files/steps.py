"""The steps of a run, in parts; each step skips finished parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relkt._relkt import IndexFileError
from relkt.data.pairs import Exclusions, PairSet
from relkt.index import Index
from relkt.mining import Skipped
from relkt.mining.negatives import mine_from
from relkt.mining_files.options import MiningOptions
from relkt.mining_files.tables import MinedPairs
from relkt.mining_files.work_folder import INDEX, MINED, WorkFolder

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

ENCODE_PART = 1024
"""Number of texts in a file of embeddings, unless ``batch_size`` is larger."""
MINE_PART = 16384
"""Number of queries in a file of mined negatives."""

_MAX_ROWS = 4096
_SKIPPED = tuple(field.name for field in fields(Skipped))

Progress = Callable[[int], None]
Stages = Callable[[str, int, int], AbstractContextManager[Progress]]
"""Opens the progress display of a stage, from its name, its number of items and the number of finished items."""


class Steps:
    """The steps of a run; each skips finished parts."""

    def __init__(
        self, work: WorkFolder, pairs: PairSet, options: MiningOptions, threads: int | None, stages: Stages
    ) -> None:
        self._work, self._pairs, self._options, self._threads, self._stages = work, pairs, options, threads, stages
        self._encode_part = max(ENCODE_PART, options.batch_size)
        self._conditions = options.conditions.limited_to(len(pairs.passages))

    def embed_passages(self, model: SentenceTransformer) -> Index:
        """Embeds the passages and builds their index file; deletes the parts."""
        passages = self._pairs.passages
        names = _part_names("passages", len(passages), self._encode_part)
        index = self._open_index(model.get_embedding_dimension())
        if index is None:
            self._embed("passages", passages, model)
            batches = (np.load(self._work.path / name, allow_pickle=False) for name in names)
            index = Index.build(self._work.path / INDEX, batches, rows=len(passages), threads=self._threads)
        self._work.delete(*names)
        return index

    def _open_index(self, dim: int | None) -> Index | None:
        """The index, if it exists and is intact; deletes a damaged one."""
        if not self._work.has(INDEX):
            return None
        try:
            index = Index.open(self._work.path / INDEX)
        except IndexFileError:
            index = None
        if index is None or len(index) != len(self._pairs.passages) or dim not in (None, index.dim):
            del index
            self._work.delete(INDEX)
            return None
        return index

    def embed_queries(self, model: SentenceTransformer) -> None:
        """Embeds the queries."""
        self._embed("queries", self._pairs.queries, model)

    def mine(self, index: Index) -> tuple[MinedPairs, dict[str, int]]:
        """Mines the negatives; returns them and the number of skipped passages by reason."""
        pairs, exclusions = self._pairs, self._pairs.exclusions(same_document=self._options.exclude_same_document)
        total = len(pairs.queries)
        by_query, first = pairs.by_query()

        def has(name: str, start: int, stop: int) -> bool:
            rows, wide = (stop - start,), (stop - start, self._conditions.num_negatives)
            shapes = {"indices": wide, "scores": wide, "pair_scores": (int(first[stop] - first[start]),)}
            return self._work.has_arrays(name, shapes | dict.fromkeys(_SKIPPED, rows))

        missing, done = _missing(MINED, total, MINE_PART, has)
        with self._stages("mining", total, done) as progress:
            for name, start, stop in missing:
                own = pairs.pairs[by_query[first[start] : first[stop]]]
                self._work.write_arrays(name, self._mine_part(start, stop, own, exclusions, index, progress))
        parts = [self._work.read_arrays(name) for name in _part_names(MINED, total, MINE_PART)]
        found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        scores = np.empty(len(by_query), dtype=np.float32)
        scores[by_query] = found["pair_scores"]
        skipped = {name: int(found[name].sum()) for name in _SKIPPED}
        return MinedPairs(pairs, scores, found["indices"], found["scores"]), skipped

    def _mine_part(
        self,
        start: int,
        stop: int,
        own: NDArray[np.int64],
        exclusions: Exclusions,
        index: Index,
        progress: Progress,
    ) -> Mapping[str, NDArray[Any]]:
        queries = self._queries(start, stop)
        mined = mine_from(
            start,
            queries,
            index,
            exclusions.positives[start:stop],
            conditions=self._conditions,
            groups=exclusions.groups,
            exclude=None if exclusions.exclude is None else exclusions.exclude[start:stop],
            progress=progress,
            threads=self._threads,
        )
        scores = _cosines(queries, own[:, 0] - start, index, own[:, 1])
        # A query with one positive gets the exact score that the conditions used.
        alone = np.bincount(own[:, 0] - start, minlength=stop - start)[own[:, 0] - start] == 1
        scores[alone] = mined.positive_scores[own[alone, 0] - start]
        return {
            "indices": mined.indices,
            "scores": mined.scores,
            "pair_scores": scores,
            **{name: getattr(mined.skipped, name) for name in _SKIPPED},
        }

    def _queries(self, start: int, stop: int) -> NDArray[np.float32]:
        size = self._encode_part
        names = _part_names("queries", len(self._pairs.queries), size)[start // size : -(-stop // size)]
        rows = np.concatenate([np.load(self._work.path / name, allow_pickle=False) for name in names])
        return rows[start % size :][: stop - start]

    def _embed(self, kind: str, texts: Sequence[str], model: SentenceTransformer) -> None:
        from relkt.encoders import encode_passages, encode_queries

        encode, prompt = encode_passages, self._options.passage_prompt
        if kind == "queries":
            encode, prompt = encode_queries, self._options.query_prompt

        def has(name: str, start: int, stop: int) -> bool:
            return self._work.has_array(name, stop - start, model.get_embedding_dimension())

        missing, done = _missing(kind, len(texts), self._encode_part, has)
        with self._stages(f"embedding {kind}", len(texts), done) as progress:
            for name, start, stop in missing:
                rows = encode(
                    model,
                    texts[start:stop],
                    batch_size=self._options.batch_size,
                    progress=progress,
                    prompt=prompt,
                )
                self._work.write_array(name, rows)


def _missing(
    kind: str, items: int, size: int, has: Callable[[str, int, int], bool]
) -> tuple[list[tuple[str, int, int]], int]:
    """Name, start and stop of each missing part, and the number of items in the finished parts."""
    parts = [
        (name, part * size, min((part + 1) * size, items)) for part, name in enumerate(_part_names(kind, items, size))
    ]
    parts = [part for part in parts if not has(*part)]
    return parts, items - sum(stop - start for _, start, stop in parts)


def _part_names(kind: str, items: int, size: int) -> list[str]:
    suffix = "npz" if kind == MINED else "npy"
    return [f"{kind}-{part:06d}.{suffix}" for part in range(-(-items // size))]


def _cosines(
    queries: NDArray[np.float32], query_rows: NDArray[np.int64], index: Index, rows: NDArray[np.int64]
) -> NDArray[np.float32]:
    """The score of each pair, in float64; computed in parts to limit the memory for copies of the rows."""
    scores = np.empty(len(rows), dtype=np.float32)
    for start in range(0, len(rows), _MAX_ROWS):
        stop = start + _MAX_ROWS
        a = queries[query_rows[start:stop]].astype(np.float64)
        b = index.embeddings(rows[start:stop]).astype(np.float64)
        scores[start:stop] = (a * b).sum(axis=1) / np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    return scores
