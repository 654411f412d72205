"""Pairs of parallel text for training, and questions made of held-out pairs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from relkt.data.parallel import ParallelText
from relkt.data.types import DataError, Passage, Query, RetrievalData, Split

MAX_HELD_OUT = 500
"""Maximum number of pairs of a language in dev; also the maximum in test."""
_HELD_OUT_SHARE = 0.1
"""Maximum share of the English texts that dev gets; also the maximum share for test."""
MAX_PASSAGES = 2000
"""Maximum number of English texts of training pairs that are candidates in addition to the held-out texts."""


def draw_pairs(parallel: ParallelText, count: int, exponent: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw pairs without replacement; rare languages get more than their share.

    Args:
        parallel: The pairs.
        count: Number of pairs to draw, at most.
        exponent: See :class:`relkt.training.config.DistillationConfig`.
        rng: Source of randomness.

    Returns:
        Rows of ``parallel.pairs``, shape ``(m,)``, m at most ``count``.
    """
    rows_of: dict[str, list[int]] = {}
    for row, pair in enumerate(parallel.pairs):
        rows_of.setdefault(pair.language, []).append(row)
    sizes = {language: len(rows) for language, rows in sorted(rows_of.items())}
    quotas = _quotas(sizes, count, exponent)
    drawn = [rng.permutation(rows_of[language])[:quota] for language, quota in quotas.items()]
    return np.concatenate([np.asarray(rows, dtype=np.int64) for rows in drawn]) if drawn else np.empty(0, np.int64)


def _quotas(sizes: Mapping[str, int], count: int, exponent: float) -> dict[str, int]:
    """Number of pairs of each language: proportional to ``size ** exponent``, at most ``size``."""
    count = min(count, sum(sizes.values()))
    quotas: dict[str, int] = {}
    left = dict(sizes)
    while left:
        weights = {language: size**exponent for language, size in left.items()}
        remaining, total = count - sum(quotas.values()), sum(weights.values())
        full = {language: size for language, size in left.items() if remaining * weights[language] / total >= size}
        if not full:
            # Round cumulative shares, so that the quotas add up to the count.
            at, given = 0.0, 0
            for language, weight in weights.items():
                at += remaining * weight / total
                quotas[language] = min(left[language], round(at) - given)
                given += quotas[language]
            break
        quotas |= full
        left = {language: size for language, size in left.items() if language not in full}
    return {language: quotas[language] for language in sizes}


def hold_out_pairs(parallel: ParallelText, seed: int) -> tuple[RetrievalData, ParallelText]:
    """Turn some pairs into dev and test questions, for a run that has no questions.

    The translation of a pair becomes a question, and the English text becomes its passage. A hash assigns each English
    text to a split, so that all its translations are in that split. Dev and test each get at most a tenth of the
    English texts, and at most 500 pairs of each language. Up to 2,000 English texts of training pairs also become
    passages, but no question has them as its positive.

    Args:
        parallel: All pairs.
        seed: Seed of the hash.

    Returns:
        A data set of the dev and test questions, whose documents are all held out; and the pairs that are left for
        training.

    Raises:
        DataError: If dev or test has no pair.
    """
    num_texts = len({pair.english for pair in parallel.pairs})
    num_languages = max(1, len(parallel.languages))
    share = min(_HELD_OUT_SHARE, MAX_HELD_OUT * num_languages / max(1, num_texts))
    split_of = {pair.english: _split(pair.english, share, seed) for pair in parallel.pairs}
    counts: dict[tuple[str, Split], int] = {}
    chosen: dict[str, Split] = {}
    queries: list[Query] = []
    for row, pair in enumerate(parallel.pairs):
        split = split_of[pair.english]
        if split is Split.TRAIN:
            continue
        chosen[pair.english] = split
        key = pair.language, split
        counts[key] = counts.get(key, 0) + 1
        if counts[key] <= MAX_HELD_OUT:
            queries.append(Query(f"pair{row}", pair.text, pair.language, pair.english, split))
    for split in (Split.DEV, Split.TEST):
        if not any(query.split is split for query in queries):
            raise DataError(
                f"parallel: expected enough pairs to hold some out for the {split.value} split, got "
                f"{len(parallel):,} pairs of {num_texts:,} English texts"
            )
    kept = tuple(pair for pair in parallel.pairs if split_of[pair.english] is Split.TRAIN)
    if not kept:
        raise DataError(f"parallel: expected pairs to train on besides those held out, got {len(parallel):,} pairs")
    used = {query.parallel for query in queries}
    seen = list(dict.fromkeys(pair.english for pair in kept))[:MAX_PASSAGES]
    texts = [*(text for text in chosen if text in used), *seen]
    id_of = {text: f"text{number}" for number, text in enumerate(texts)}
    data = RetrievalData(
        name="parallel",
        passages=tuple(Passage(id_of[text], text, id_of[text]) for text in texts),
        queries=tuple(queries),
        qrels={query.id: {id_of[query.parallel]: 1} for query in queries},
        held_out={id_of[text]: chosen[text] for text in texts if text in chosen},
    )
    removed = len(parallel) - len(kept)
    return data, ParallelText(kept, {**parallel.left_out, "held out for dev and test": removed}, parallel.sources)


def _split(text: str, share: float, seed: int) -> Split:
    place = int.from_bytes(hashlib.sha256(f"{seed}:{text}".encode()).digest()[:8], "big") / 2**64
    return Split.DEV if place < share else Split.TEST if place < 2 * share else Split.TRAIN
