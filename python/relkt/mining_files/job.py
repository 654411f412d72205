"""A run of mining: read, embed part by part, mine part by part, write."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relkt.data.pair_files import CorpusColumns, PairColumns, input_files, read_pair_files
from relkt.data.pairs import Candidacy, PairSet
from relkt.data.types import Split
from relkt.index import Index
from relkt.mining import Strategy, mine
from relkt.mining.conditions import Conditions
from relkt.mining_files.tables import SUFFIXES, MinedPairs, OutputFormat, write_table
from relkt.mining_files.work_folder import WorkFolder

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

ENCODE_PART = 4096
"""Texts in a file of embeddings."""
MINE_PART = 16384
"""Queries in a file of mined negatives."""

_INDEX = "passages.relkt"
_VERSION = 1
_SKIPPED = ("excluded", "too_similar", "near_positive", "range_min")

Progress = Callable[[int], None]
Stages = Callable[[str, int, int], AbstractContextManager[Progress]]
"""Name of a stage, how many items it has and how many are done: what is told the number of items done since."""


@dataclass(frozen=True, kw_only=True)
class MiningOptions:
    """How to mine; conditions are those of :func:`relkt.mine`.

    Attributes:
        num_negatives: Negatives of each query, at most.
        strategy: "top" or "random".
        range_min: Ranks passed over.
        range_max: The last rank that counts.
        min_score: The lowest cosine.
        max_score: The highest cosine.
        absolute_margin: Distance from the lowest positive's score.
        relative_margin: The same as a share of that score.
        max_positive_similarity: Near-duplicates of a positive, above this cosine, are no negatives.
        seed: Of strategy "random": of the first :data:`MINE_PART` queries, one more for each such part after it.
        exclude_same_document: Whether passages of a positive's document are no negatives, where documents are known.
        query_prompt: Put before queries; default: the model's.
        passage_prompt: Put before passages; default: the model's.
        batch_size: Texts embedded at once.
    """

    num_negatives: int = 3
    strategy: Strategy = Strategy.TOP
    range_min: int = 0
    range_max: int | None = None
    min_score: float | None = None
    max_score: float | None = None
    absolute_margin: float | None = None
    relative_margin: float | None = None
    max_positive_similarity: float | None = None
    seed: int = 0
    exclude_same_document: bool = True
    query_prompt: str | None = None
    passage_prompt: str | None = None
    batch_size: int = 32

    def conditions(self) -> dict[str, Any]:
        """The arguments of :func:`relkt.mine` among them."""
        others = ("exclude_same_document", "query_prompt", "passage_prompt", "batch_size")
        return {name: value for name, value in asdict(self).items() if name not in others}


@dataclass(frozen=True, kw_only=True)
class MiningSummary:
    """What a run found.

    Attributes:
        queries: Distinct queries.
        passages: Distinct passages.
        pairs: Distinct pairs.
        repeated_pairs: How often a pair was given again.
        rows: Rows written.
        served: Queries with all the negatives asked for.
        partly_served: Queries with fewer, but some.
        unserved: Queries with none.
        negatives: Negatives, summed over the queries.
        positive_score: Mean score of the pairs.
        negative_score: Mean score of the negatives; NaN if there are none.
        excluded: Candidates passed over, summed over the queries, as their document or text is a positive's or the
            query's.
        too_similar: As they score above ``max_score`` or what a margin leaves.
        near_positive: As they are near-duplicates of a positive.
        range_min: As they are among the best ``range_min``.
        left_out: Pairs without a row in the output: in the format n-tuple those of queries that were not fully served,
            in triplet and labeled-list those of queries without negatives.
        resumed: Whether the run went on with the work of another.
    """

    queries: int
    passages: int
    pairs: int
    repeated_pairs: int
    rows: int
    served: int
    partly_served: int
    unserved: int
    negatives: int
    positive_score: float
    negative_score: float
    excluded: int
    too_similar: int
    near_positive: int
    range_min: int
    left_out: int
    resumed: bool


def mine_files(
    pairs: Path,
    output: Path,
    *,
    corpus: Path | None = None,
    columns: PairColumns | None = None,
    corpus_columns: CorpusColumns | None = None,
    split: Split | None = None,
    encoder: str = "muse",
    device: str | None = None,
    options: MiningOptions | None = None,
    output_format: OutputFormat = OutputFormat.TRIPLET,
    scores: bool = False,
    ids: bool = True,
    threads: int | None = None,
    overwrite: bool = False,
    stages: Stages | None = None,
) -> MiningSummary:
    """Mines negatives for the pairs of a file.

    Work is kept in ``OUTPUT.work`` beside the output: embeddings in parts of a few thousand texts, then negatives in
    parts of some thousand queries. A run that was killed, at whatever moment, goes on there when it is called again,
    and its output is the same byte for byte (with the same versions of the libraries and number of threads). The
    output appears once it is complete, and the folder goes.

    Args:
        pairs: See :func:`~relkt.data.pair_files.read_pair_files`, as for the next four.
        output: ``.parquet`` or ``.jsonl``. The caller has seen to it that it may be replaced if it exists.
        corpus: Further passages.
        columns: Names of the columns of ``pairs``.
        corpus_columns: Names of the columns of ``corpus``.
        split: Part of a folder in the BEIR layout.
        encoder: "muse", or a model's folder or name on the Hub.
        device: Where to embed; default: a GPU if there is one.
        options: How to mine.
        output_format: What a row is.
        scores: Whether rows have scores.
        ids: Whether rows have ids, where the input has.
        threads: Threads of embedding and mining; default: all that the process may use.
        overwrite: Whether to delete the work of a run with other inputs or options.
        stages: Told what is done; default: nobody.

    Raises:
        ValueError: If an option is out of its range (before any file is read or written).
        DataError: If the input cannot be used; see :func:`~relkt.data.pair_files.read_pair_files`.
        WorkFolderError: If the work folder belongs to a run with other inputs or options.
        OSError: If the encoder cannot be loaded or a file cannot be written.
    """
    options = options or MiningOptions()
    stages = stages or (lambda *_: nullcontext(lambda _: None))
    if output.suffix.lower() not in SUFFIXES:
        raise ValueError(f"output: expected a file that ends in {' or '.join(SUFFIXES)}, got {output}")
    _check(options)
    found = read_pair_files(pairs, corpus, columns=columns, corpus_columns=corpus_columns, split=split)
    _checked(options, len(found.passages))

    work = WorkFolder(output)
    manifest = {
        "version": _VERSION,
        "inputs": {name: _checksum_of(path) for name, path in input_files(pairs, corpus).items()},
        "columns": asdict(columns or PairColumns()),
        "corpus columns": asdict(corpus_columns or CorpusColumns()),
        "split": None if split is None else split.value,
        "encoder": encoder,
        "options": asdict(options) | {"strategy": options.strategy.value},
    }
    from relkt.encoders import load_encoder, model_checksum

    with _torch_threads(threads):
        run = _Run(work, found, options, threads, stages)
        model = load_encoder(encoder, device=device)
        resumed = work.open(manifest | {"weights": model_checksum(model)}, overwrite=overwrite)
        index = run.embed_passages(model)
        run.embed_queries(model)
        mined, skipped = run.mine(index)
        with work.writing("output", output) as path:
            rows = write_table(
                path,
                mined,
                output_format,
                scores=scores,
                ids=ids,
                parquet=output.suffix.lower() == ".parquet",
            )
    del index, run
    work.remove()
    return _summary(mined, skipped, output_format, rows, resumed)


class _Run:
    """The steps, each of which leaves out what is done."""

    def __init__(
        self, work: WorkFolder, pairs: PairSet, options: MiningOptions, threads: int | None, stages: Stages
    ) -> None:
        self._work, self._pairs, self._options, self._threads, self._stages = work, pairs, options, threads, stages

    def embed_passages(self, model: SentenceTransformer) -> Index:
        """The passages as an index file, from which their parts are deleted."""
        passages = self._pairs.passages
        path = self._work.path / _INDEX
        if not self._work.has(_INDEX):
            self._embed("passages", passages, model)
            names = _part_names("passages", len(passages), ENCODE_PART)
            batches = (np.load(self._work.path / name, allow_pickle=False) for name in names)
            Index.build(path, batches, rows=len(passages), threads=self._threads)
        self._work.delete(*_part_names("passages", len(passages), ENCODE_PART))
        return Index.open(path)

    def embed_queries(self, model: SentenceTransformer) -> None:
        """The queries, in parts."""
        self._embed("queries", self._pairs.queries, model)

    def mine(self, index: Index) -> tuple[MinedPairs, dict[str, int]]:
        """All negatives, and how many candidates were passed over, by reason."""
        pairs, candidacy = self._pairs, self._pairs.candidacy(same_document=self._options.exclude_same_document)
        total = len(pairs.queries)
        names = _part_names("mined", total, MINE_PART)
        done = sum(min(MINE_PART, total - part * MINE_PART) for part, name in enumerate(names) if self._work.has(name))
        by_query = np.argsort(pairs.pairs[:, 0], kind="stable")
        first = np.searchsorted(pairs.pairs[by_query, 0], np.arange(total + 1))
        with self._stages("mining", total, done) as progress:
            for part, name in enumerate(names):
                if not self._work.has(name):
                    start, stop = part * MINE_PART, min((part + 1) * MINE_PART, total)
                    own = pairs.pairs[by_query[first[start] : first[stop]]]
                    self._work.write_arrays(name, self._mine_part(part, start, stop, own, candidacy, index, progress))
        parts = [self._work.read_arrays(name) for name in names]
        found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        scores = np.empty(len(by_query), dtype=np.float32)
        scores[by_query] = found["pair_scores"]
        skipped = {name: int(found[name].sum()) for name in _SKIPPED}
        return MinedPairs(pairs, scores, found["indices"], found["scores"]), skipped

    def _mine_part(
        self,
        part: int,
        start: int,
        stop: int,
        own: NDArray[np.int64],
        candidacy: Candidacy,
        index: Index,
        progress: Progress,
    ) -> Mapping[str, NDArray[Any]]:
        queries = self._queries(start, stop)
        conditions = self._options.conditions()
        mined = mine(
            queries,
            index,
            candidacy.positives[start:stop],
            groups=candidacy.groups,
            exclude=None if candidacy.exclude is None else candidacy.exclude[start:stop],
            threads=self._threads,
            progress=progress,
            **conditions | {"seed": (self._options.seed + part) % 2**64},
        )
        scores = _cosines(queries, own[:, 0] - start, index, own[:, 1])
        # The score that conditions were held against, to the last digit.
        alone = np.bincount(own[:, 0] - start, minlength=stop - start)[own[:, 0] - start] == 1
        scores[alone] = mined.positive_scores[own[alone, 0] - start]
        return {
            "indices": mined.indices,
            "scores": mined.scores,
            "pair_scores": scores,
            **{name: getattr(mined.skipped, name) for name in _SKIPPED},
        }

    def _queries(self, start: int, stop: int) -> NDArray[np.float32]:
        names = _part_names("queries", len(self._pairs.queries), ENCODE_PART)
        parts = names[start // ENCODE_PART : -(-stop // ENCODE_PART)]
        return np.concatenate([np.load(self._work.path / name, allow_pickle=False) for name in parts])

    def _embed(self, kind: str, texts: Sequence[str], model: SentenceTransformer) -> None:
        from relkt.encoders import encode_passages, encode_queries

        encode, prompt = encode_passages, self._options.passage_prompt
        if kind == "queries":
            encode, prompt = encode_queries, self._options.query_prompt
        names = _part_names(kind, len(texts), ENCODE_PART)
        done = sum(
            min(ENCODE_PART, len(texts) - part * ENCODE_PART) for part, name in enumerate(names) if self._work.has(name)
        )
        with self._stages(f"embedding {kind}", len(texts), done) as progress:
            for part, name in enumerate(names):
                if not self._work.has(name):
                    chunk = texts[part * ENCODE_PART : (part + 1) * ENCODE_PART]
                    rows = encode(model, chunk, batch_size=self._options.batch_size, progress=progress, prompt=prompt)
                    self._work.write(name, partial(np.save, arr=rows, allow_pickle=False))


def _part_names(kind: str, items: int, size: int) -> list[str]:
    suffix = "npz" if kind == "mined" else "npy"
    return [f"{kind}-{part:06d}.{suffix}" for part in range(-(-items // size))]


def _cosines(
    queries: NDArray[np.float32], query_rows: NDArray[np.int64], index: Index, rows: NDArray[np.int64]
) -> NDArray[np.float32]:
    """The score of each pair, in double precision; a part at a time, as both sides are copied."""
    scores = np.empty(len(rows), dtype=np.float32)
    for start in range(0, len(rows), ENCODE_PART):
        stop = start + ENCODE_PART
        a = queries[query_rows[start:stop]].astype(np.float64)
        b = index.embeddings(rows[start:stop]).astype(np.float64)
        scores[start:stop] = (a * b).sum(axis=1) / np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    return scores


def _check(options: MiningOptions) -> None:
    if options.batch_size < 1:
        raise ValueError(f"batch_size: expected an integer of at least 1, got {options.batch_size}")
    if options.num_negatives < 1:
        raise ValueError(f"num_negatives: expected an integer of at least 1, got {options.num_negatives}")
    _checked(options, options.num_negatives)


def _checked(options: MiningOptions, passages: int) -> None:
    Conditions.checked(**options.conditions(), num_hard=0, num_semi_hard=0, margin=0.0, passages=passages)


def _checksum_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def _torch_threads(threads: int | None) -> Iterator[None]:
    if threads is None:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _summary(
    mined: MinedPairs, skipped: Mapping[str, int], kind: OutputFormat, rows: int, resumed: bool
) -> MiningSummary:
    pairs = mined.pairs
    counts = (mined.negatives >= 0).sum(axis=1)
    wanted = mined.negatives.shape[1]
    needed = {OutputFormat.N_TUPLE: wanted, OutputFormat.LABELED_PAIR: 0}.get(kind, 1)
    negatives = int(counts.sum())
    return MiningSummary(
        queries=len(pairs.queries),
        passages=len(pairs.passages),
        pairs=len(pairs.pairs),
        repeated_pairs=pairs.repeated,
        rows=rows,
        served=int((counts == wanted).sum()),
        partly_served=int(((counts > 0) & (counts < wanted)).sum()),
        unserved=int((counts == 0).sum()),
        negatives=negatives,
        positive_score=float(mined.positive_scores.mean(dtype=np.float64)),
        negative_score=float(np.nanmean(mined.scores, dtype=np.float64)) if negatives else float("nan"),
        left_out=int((counts[pairs.pairs[:, 0]] < needed).sum()),
        resumed=resumed,
        **skipped,
    )
