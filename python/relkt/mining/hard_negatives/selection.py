"""Selection of each query's negatives under the rule of ``mine_hard_negatives``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from relkt._relkt import Passages, check_queries
from relkt.arrays import Embeddings, as_rows, to_core
from relkt.index import Index
from relkt.mining.conditions import upper_limits
from relkt.mining.hard_negatives.embeddings import pool_of
from relkt.mining.hard_negatives.pairs import Pairs
from relkt.mining.negatives import mine

_BLOCK_CANDIDATES = 2**20
"""Maximum number of candidates in memory."""
_BLOCK_RESCORED = 2**14
"""Maximum number of pairs in a call of the cross-encoder."""


@dataclass(frozen=True)
class SelectionRule:
    """The rule that makes a candidate a negative, from the arguments of ``mine_hard_negatives``.

    Attributes:
        range_max: None for no limit; the search then applies the conditions.
        sample: Function like ``random.sample``; None takes the best candidates.
        complete: Whether queries with too few options among the best ``range_max`` candidates are searched again, with
            the conditions inside the search.
    """

    num_negatives: int
    range_min: int
    range_max: int | None
    max_score: float | None
    min_score: float | None
    absolute_margin: float | None
    relative_margin: float | None
    sample: Callable[..., list[int]] | None
    include_positives: bool
    complete: bool

    def upper_limits(self, lowest_positive: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
        """The highest score allowed by each upper limit that is set, (q,)."""
        positive = lowest_positive.astype(np.float64)
        return upper_limits(positive, self.absolute_margin, self.relative_margin, self.max_score)


@dataclass(eq=False)
class Selection:
    """Negatives of every query.

    Attributes:
        rows: (q, m) int64 rows of the corpus, highest score first, then -1 for missing negatives.
        scores: (q, m) float32, then NaN for missing negatives.
        positive_scores: (p,) float32, of each of ``Pairs.positives``.
        candidates: Number of candidates that the conditions were applied to.
        skipped: Number of candidates that each condition rejected; a candidate counts only for the first that rejects
            it.
    """

    rows: NDArray[np.int64]
    scores: NDArray[np.float32]
    positive_scores: NDArray[np.float32]
    candidates: int = 0
    skipped: dict[str, int] = field(default_factory=dict)

    def skip(self, name: str, count: int) -> None:
        self.skipped[name] = self.skipped.get(name, 0) + count


class Searched:
    """Embeddings and the settings of their search.

    Args:
        queries: (q, d) float32 or float16.
        corpus: (n, d), like ``queries``; not copied.
        query_block: Maximum number of queries to search at a time.
        threads: Number of threads, or None for all.
        verbose: Show progress bars.
    """

    def __init__(
        self, queries: Embeddings, corpus: Embeddings, query_block: int, threads: int | None, verbose: bool
    ) -> None:
        self.queries = as_rows("model: embeddings of the queries", queries)
        check_queries(to_core(self.queries), threads)
        rows = to_core(as_rows("model: embeddings of the passages", corpus))
        self._passages = Passages.borrow(rows, threads)
        self.corpus = Index._of(self._passages, None, {}, None)
        self.query_block = query_block
        self.threads = threads
        self.verbose = verbose

    def positive_scores(self, pairs: Pairs) -> NDArray[np.float32]:
        """(p,) float32: the score of each query with each of its positives, equal to the search's scores."""
        query_of_pair = pairs.query_of_pair
        scores = np.empty(len(query_of_pair), np.float32)
        for start in range(0, len(scores), self.query_block):
            queries = self.queries[query_of_pair[start : start + self.query_block]]
            rows = pairs.positives[start : start + self.query_block]
            lists = np.arange(len(rows) + 1), rows
            scores[start : start + len(rows)] = self._passages.lowest_positive(to_core(queries), lists, self.threads)
        return scores


def select_inside(searched: Searched, pairs: Pairs, positives: NDArray[np.float32], rule: SelectionRule) -> Selection:
    """The best negatives under all conditions; a query gets fewer only if the corpus has no more.

    ``skipped`` counts every passage above a query's lowest upper limit, under the name of that limit; passages below
    ``min_score`` are not counted.
    """
    with tqdm(total=len(searched.queries), desc="Mining negatives", disable=not searched.verbose) as bar:
        rows, scores, too_similar = _mined(searched, pairs, np.arange(len(searched.queries)), rule, bar.update)
    selection = Selection(rows, scores, positives, len(rows) * len(searched.corpus) - len(positives))
    limits = rule.upper_limits(_lowest(positives, pairs.starts))
    if limits:
        tightest = np.argmin(np.stack(list(limits.values())), axis=0)
        for position, name in enumerate(limits):
            selection.skip(name, int(too_similar[tightest == position].sum()))
    return selection


def select_ranked(
    searched: Searched, pairs: Pairs, positives: NDArray[np.float32], rule: SelectionRule, rescore: Rescorer | None
) -> Selection:
    """Negatives among the best ``range_max`` + (maximum number of positives of a query) candidates.

    Candidates are the best by cosine. With ``rescore``, its scores replace the cosines in the conditions and in the
    ranks of ``range_min`` and ``range_max``.
    """
    assert rule.range_max is not None
    num_queries, m = len(searched.queries), rule.num_negatives
    k = min(rule.range_max + int(pairs.rows_per_query.max()), len(searched.corpus))
    selection = Selection(
        np.full((num_queries, m), -1), np.full((num_queries, m), np.nan, np.float32), positives, num_queries * k
    )
    short = []
    for start, stop in _blocks(num_queries, k, searched, rescore is not None):
        own = slice(pairs.starts[start], pairs.starts[stop])
        starts = pairs.starts[start : stop + 1] - pairs.starts[start]
        hits = searched.corpus.search(searched.queries[start:stop], k, threads=searched.threads)
        scores, rows = hits.scores, hits.indices
        valid = np.ones(rows.shape, bool)
        if not rule.include_positives:
            valid = ~_listed(rows, starts, pairs.positives[own], len(searched.corpus))
        if rescore is not None:
            scores = rescore(pairs, start, rows, valid, own, positives)
            order = np.argsort(np.where(valid, -scores, np.inf), axis=1, kind="stable")
            rows, scores, valid = (np.take_along_axis(a, order, axis=1) for a in (rows, scores, valid))
        _reject(selection, scores, valid, _lowest(positives[own], starts), rule)
        places, found = _choose(valid, rule)
        there = places >= 0
        selection.rows[start:stop] = np.where(there, np.take_along_axis(rows, places, axis=1), -1)
        selection.scores[start:stop] = np.where(there, np.take_along_axis(scores, places, axis=1), np.nan)
        short.append(start + np.flatnonzero(found < m))
    few = np.concatenate(short)
    if rule.complete and len(few):
        selection.rows[few], selection.scores[few], _ = _mined(searched, pairs, few, rule, None)
    return selection


class Rescorer:
    """Scores candidates and positives with a cross-encoder.

    Args:
        predict: The cross-encoder's method.
        batch_size: Number of pairs in a batch.
        pool: Pool of processes, or None.
    """

    def __init__(self, predict: Callable[..., Any], batch_size: int, pool: Any) -> None:
        self._predict = predict
        self._options = {"batch_size": batch_size, "convert_to_tensor": True, "show_progress_bar": False}
        if pool is not None:
            self._options["pool"] = pool

    def __call__(
        self,
        pairs: Pairs,
        first_query: int,
        rows: NDArray[np.int64],
        valid: NDArray[np.bool_],
        own: slice,
        positives: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        """Scores (b, k) of the candidates ``rows`` of some queries, NaN if not ``valid``; overwrites ``positives``."""
        query, place = np.nonzero(valid)
        query_of_pair = np.searchsorted(pairs.starts, np.arange(own.start, own.stop), side="right") - 1
        texts = pairs.texts(
            np.concatenate([query_of_pair, first_query + query]),
            np.concatenate([pairs.positives[own], rows[query, place]]),
        )
        predicted = self._predict(texts, **self._options)
        values = np.asarray(predicted.detach().float().cpu() if hasattr(predicted, "detach") else predicted, np.float32)
        if values.shape != (len(texts),):
            raise ValueError(f"cross_encoder: expected one score for each pair, ({len(texts)},), got {values.shape}")
        if not np.isfinite(values).all():
            pair = texts[int(np.flatnonzero(~np.isfinite(values))[0])]
            raise ValueError(f"cross_encoder: expected finite scores, got a NaN or an infinity for {pair!r}")
        positives[own] = values[: len(query_of_pair)]
        scores = np.full(rows.shape, np.nan, np.float32)
        scores[query, place] = values[len(query_of_pair) :]
        return scores


def rescored(
    searched: Searched,
    pairs: Pairs,
    positives: NDArray[np.float32],
    rule: SelectionRule,
    cross_encoder: Any,
    batch_size: int,
    use_multi_process: list[str] | bool,
) -> Selection:
    """:func:`select_ranked` by the scores of a cross-encoder, optionally in several processes."""
    with pool_of(cross_encoder, use_multi_process) as pool:
        return select_ranked(searched, pairs, positives, rule, Rescorer(cross_encoder.predict, batch_size, pool))


def _blocks(num_queries: int, k: int, searched: Searched, rescoring: bool) -> Iterator[tuple[int, int]]:
    block = min(searched.query_block, max(1, (_BLOCK_RESCORED if rescoring else _BLOCK_CANDIDATES) // k))
    name = "Rescoring with CrossEncoder" if rescoring else "Searching candidates"
    with tqdm(total=num_queries, desc=name, disable=not searched.verbose) as bar:
        for start in range(0, num_queries, block):
            stop = min(start + block, num_queries)
            yield start, stop
            bar.update(stop - start)


def _mined(
    searched: Searched,
    pairs: Pairs,
    queries: NDArray[np.int64],
    rule: SelectionRule,
    progress: Callable[[int], Any] | None,
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
    every = len(queries) == len(searched.queries)
    mined = mine(
        searched.queries if every else searched.queries[queries],
        searched.corpus,
        _row_lists(pairs, queries),
        num_negatives=rule.num_negatives,
        range_min=rule.range_min,
        min_score=rule.min_score,
        max_score=rule.max_score,
        absolute_margin=rule.absolute_margin,
        relative_margin=rule.relative_margin,
        block_size=searched.query_block,
        progress=progress,
        threads=searched.threads,
    )
    return mined.indices, mined.scores, mined.skipped.too_similar


def _row_lists(pairs: Pairs, queries: NDArray[np.int64]) -> NDArray[np.int64] | list[list[int]]:
    starts, stops = pairs.starts[queries], pairs.starts[queries + 1]
    if (stops - starts == 1).all():
        return pairs.positives[starts]
    rows = pairs.positives.tolist()
    return [rows[start:stop] for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)]


def _lowest(positives: NDArray[np.float32], starts: NDArray[np.int64]) -> NDArray[np.float32]:
    return np.minimum.reduceat(positives, starts[:-1])  # every query has a positive


def _listed(
    rows: NDArray[np.int64], starts: NDArray[np.int64], listed: NDArray[np.int64], num_rows: int
) -> NDArray[np.bool_]:
    """(b, k) bool: True if the row is in its query's list."""
    offsets = np.arange(len(rows)) * num_rows
    keys = np.sort(listed + np.repeat(offsets, np.diff(starts)))
    wanted = rows + offsets[:, None]
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return keys[places] == wanted


def _reject(
    selection: Selection,
    scores: NDArray[np.float32],
    valid: NDArray[np.bool_],
    lowest_positive: NDArray[np.float32],
    rule: SelectionRule,
) -> None:
    """Clears ``valid`` where a condition does not hold, and counts the rejected candidates."""
    for name, limit in rule.upper_limits(lowest_positive).items():
        rejected = valid & (scores > limit[:, None])
        selection.skip(name, int(rejected.sum()))
        valid &= ~rejected
    if rule.min_score is not None:
        rejected = valid & (scores < np.float64(rule.min_score))
        selection.skip("min_score", int(rejected.sum()))
        valid &= ~rejected


def _choose(valid: NDArray[np.bool_], rule: SelectionRule) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The columns of the chosen candidates, (b, m), then -1; and the number of options of each query, (b,)."""
    assert rule.range_max is not None
    m = rule.num_negatives
    ranks = np.cumsum(valid, axis=1) - 1 - rule.range_min
    width = max(m, min(rule.range_max - rule.range_min, valid.shape[1])) if rule.sample else m
    query, column = np.nonzero(valid & (ranks >= 0) & (ranks < width))
    options = np.full((len(valid), width), -1)
    options[query, ranks[query, column]] = column
    found = np.count_nonzero(options >= 0, axis=1)
    if rule.sample is None:
        return options, found
    # The calls and their order are those of sentence-transformers. With fewer options than m, all are chosen.
    drawn = np.array([rule.sample(range(count), k=m) for count in np.maximum(found, m).tolist()])
    return np.take_along_axis(options, np.sort(drawn, axis=1), axis=1), found
