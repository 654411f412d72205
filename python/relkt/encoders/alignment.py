"""Word alignment: translation probabilities between tokens, from parallel texts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

ITERATIONS = 8
"""Rounds of expectation and maximisation; later rounds hardly change the probabilities."""


def translation_table(
    sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]], *, iterations: int = ITERATIONS
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Estimates the probabilities that a source token is translated into a target token.

    These are ``t(e | f)`` of IBM model 1. In a pair of texts, a source token f or the empty token generates each target
    token e; all these sources are equally likely a priori. Expectation and maximisation start from equal probabilities,
    and converge to the global maximum from any start.

    Args:
        sources: Token ids, at least 0, of each source text.
        targets: Token ids of each translation.
        iterations: Number of rounds, at least 1.

    Returns:
        Source tokens, target tokens and their probabilities, shape ``(m,)`` each: one entry for each source token and
        target token of the same pair, ordered by source and then target token. The probabilities of a source token sum
        to 1, or are all 0 if no target token was attributed to it.

    Raises:
        ValueError: If the numbers of sources and targets differ, or ``iterations`` is below 1.

    Reference:
        Brown et al., "The Mathematics of Statistical Machine Translation: Parameter Estimation", Computational
        Linguistics 19(2), 1993, section 4.1.
    """
    if len(sources) != len(targets):
        raise ValueError(f"targets: expected {len(sources)} texts, one per source, got {len(targets)}")
    if iterations < 1:
        raise ValueError(f"iterations: expected at least 1, got {iterations}")
    pairs = [
        (np.asarray(source, dtype=np.int64), np.asarray(target, dtype=np.int64))
        for source, target in zip(sources, targets, strict=True)
        if len(source) and len(target)
    ]
    if not pairs:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    # A cell is a source position (the empty token is -1) and a target position of a pair; cells of the same target
    # position are adjacent.
    f = np.concatenate([np.tile(np.append(source, -1), len(target)) for source, target in pairs])
    e = np.concatenate([np.repeat(target, len(source) + 1) for source, target in pairs])
    sizes = np.concatenate([np.full(len(target), len(source) + 1) for source, target in pairs])
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])

    width = int(e.max()) + 1
    keys, entry = np.unique((f + 1) * width + e, return_inverse=True)
    first, second = keys // width - 1, keys % width
    source_of = np.unique(first, return_inverse=True)[1].reshape(-1)
    entry = entry.reshape(-1)
    t = np.full(len(keys), 1.0)
    for _ in range(iterations):
        share = t[entry]
        total = np.add.reduceat(share, starts)
        # If the probabilities of all sources of a target are 0, nothing is attributed.
        share /= np.repeat(np.where(total > 0, total, 1.0), sizes)
        counts = np.bincount(entry, weights=share, minlength=len(keys))
        sums = np.bincount(source_of, weights=counts)
        t = counts / np.where(sums > 0, sums, 1.0)[source_of]
    known = first >= 0
    return first[known], second[known], t[known]
