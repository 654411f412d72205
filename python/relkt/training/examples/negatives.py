"""Negatives of the warm-up stage: BM25 or random candidates that do not answer the question."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from relkt.training.examples import Rows, TrainingSet


class BM25Index:
    """BM25 index of English texts: Lucene's variant with k1 = 1.5 and b = 0.75 (bm25s).

    Args:
        texts: The candidates, ``n`` of them.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        import bm25s

        self._size = len(texts)
        self._index = bm25s.BM25(method="lucene", k1=1.5, b=0.75, backend="numpy")
        with _quiet("bm25s"):
            self._index.index(split_words(texts), show_progress=False)

    def scores(self, words: Sequence[str]) -> NDArray[np.float64]:
        """The score of every candidate for the words of a question.

        Args:
            words: The words, from :func:`split_words`.

        Returns:
            Shape ``(n,)``, float64; all 0 if no candidate has any of the words.
        """
        known = [word for word in words if word in self._index.vocab_dict]
        scores = np.zeros(self._size, dtype=np.float64)
        if known:
            scores[:] = self._index.get_scores(known)
        return scores


def split_words(texts: Sequence[str]) -> list[list[str]]:
    """The words of each text, in lower case and without English stop words."""
    import bm25s

    words: list[list[str]] = bm25s.tokenize(list(texts), stopwords="en", return_ids=False, show_progress=False)
    return words


def bm25_negatives(examples: TrainingSet, *, num_negatives: int, seed: int) -> Rows:
    """The best BM25 candidates for each question, without blocked ones.

    BM25 ranks the candidates for the English translation of a question, or for the question itself if it has no
    translation. Blocked candidates (:meth:`TrainingSet.blocked`) are removed before ranking. A question therefore has
    fewer than ``num_negatives`` negatives only if the data set has fewer candidates left. Candidates with equal scores
    are ranked at random. Otherwise, every question that shares no word with any candidate (e.g. a question in another
    script that has no translation) would get the first rows of the data set.

    Args:
        examples: The questions and candidates.
        num_negatives: Negatives per question, at least 1.
        seed: Seed of the order among equal scores.

    Returns:
        Triplets ``(question row, positive row, negative row)``, shape ``(t, 3)``, int64; sorted by question, then by
        positive, then by BM25 rank. Questions with the same English text and positives have the same negatives.

    Reference:
        Limkonchotiwat et al., Findings of NAACL 2022, section 2.1: the paper uses ranks 1 to 3, and splits texts at
        spaces only.
    """
    index = BM25Index(examples.candidates.texts)
    questions = sorted(set(examples.english))
    words_of = dict(zip(questions, split_words(questions), strict=True))
    found: dict[tuple[str, tuple[int, ...]], Rows] = {}

    def negatives(query: int) -> Rows:
        key = (examples.english[query], examples.positives(query))
        if key not in found:
            scores = index.scores(words_of[key[0]])
            allowed = np.setdiff1d(np.arange(len(scores)), examples.blocked(query), assume_unique=True)
            # One generator per question, so that its negatives do not depend on the other questions.
            ties = np.random.default_rng([seed, *key[0].encode()]).permutation(len(allowed))
            order = np.lexsort((ties, -scores[allowed]))
            found[key] = allowed[order[:num_negatives]].astype(np.int64)
        return found[key]

    return _triplets(examples, negatives)


def random_negatives(examples: TrainingSet, *, num_negatives: int, seed: int, epoch: int) -> Rows:
    """Random candidates that are not blocked, as triplets like :func:`bm25_negatives`; drawn again each epoch."""
    rng = np.random.default_rng([seed, epoch])
    num_candidates = len(examples.candidates.texts)

    def negatives(query: int) -> Rows:
        allowed = np.setdiff1d(np.arange(num_candidates), examples.blocked(query), assume_unique=True)
        return rng.choice(allowed, size=min(num_negatives, len(allowed)), replace=False).astype(np.int64)

    return _triplets(examples, negatives)


@contextmanager
def _quiet(logger_name: str) -> Iterator[None]:
    """Show only warnings and errors of a library that sets its own log level to DEBUG."""
    logger = logging.getLogger(logger_name)
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _triplets(examples: TrainingSet, negatives: Callable[[int], Rows]) -> Rows:
    rows = [
        (query, positive, negative)
        for query, positive in examples.pairs.tolist()
        for negative in negatives(query).tolist()
    ]
    return np.array(rows, dtype=np.int64).reshape(-1, 3)
