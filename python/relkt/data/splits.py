"""Assignment of questions to train, dev and test."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from enum import Enum
from fractions import Fraction

from relkt.data.types import DataError, Passage, Query, Split
from relkt.errors import ArgumentError

DEFAULT_FRACTIONS = (0.6, 0.2, 0.2)
"""Shares of train, dev and test, as in the paper for XQuAD (section 3.1)."""
DEFAULT_SEED = 42
"""Seed of the split."""


class SplitBy(str, Enum):
    """Rule that decides the split of a question."""

    AUTO = "auto"
    """The published parts if the data set has several (BEIR layout), otherwise by question."""
    QUESTION = "question"
    """Shuffle the questions. Translations of a question share a split; training may see a test question's passage."""
    DOCUMENT = "document"
    """Shuffle the documents: all questions on a document are in the same split."""
    OFFICIAL = "official"
    """The published parts, under their own names."""
    PAPER = "paper"
    """The splits of the CL-ReLKT authors; the documentation of each reader defines them."""


def divide(units: Iterable[str], shares: Mapping[Split, float], seed: int) -> dict[str, Split]:
    """Shuffles units and cuts them into parts of exact size.

    Units are sorted by the SHA-256 digest of ``"seed:unit"``, so the result depends only on the seed and the set of
    units, not on their order, the platform or the Python version. Each of the n units belongs to one part; a part ends
    at its cumulative share times n, rounded half up, so its size differs from share * n by less than 1.

    Args:
        units: Ids of the units; repeated ids count once.
        shares: Split -> share, in order; non-negative, summing to 1.
        seed: Seed of the shuffle.

    Returns:
        Unit -> split.

    Raises:
        DataError: If a split with a share above 0 would be empty.
    """
    ordered = sorted(set(units), key=lambda unit: (hashlib.sha256(f"{seed}:{unit}".encode()).digest(), unit))
    out: dict[str, Split] = {}
    # Exact fractions, so that 0.6 + 0.2 is 0.8 and rounding does not depend on float errors.
    total, start = Fraction(0), 0
    for split, share in shares.items():
        total += Fraction(str(share)).limit_denominator(10**9)
        end = min(math.floor(total * len(ordered) + Fraction(1, 2)), len(ordered))
        if share > 0 and end == start:
            raise DataError(
                f"split_fractions: {len(ordered)} questions or documents are too few to give {split.value} its share "
                f"of {share:g}"
            )
        out.update(dict.fromkeys(ordered[start:end], split))
        start = end
    return out


def check_fractions(fractions: Sequence[float]) -> dict[Split, float]:
    """Checks the shares of train, dev and test, and returns split -> share.

    Raises:
        ArgumentError: If there are not three shares, a share is negative or not a number, or the sum is not 1.
    """
    shares = tuple(float(f) for f in fractions)
    if len(shares) != 3 or not all(share >= 0 for share in shares) or abs(sum(shares) - 1) > 1e-9:
        raise ArgumentError(
            "split_fractions", "three non-negative shares (train, dev, test) that sum to 1", repr(fractions)
        )
    return dict(zip((Split.TRAIN, Split.DEV, Split.TEST), shares, strict=True))


def assign_splits(
    queries: Sequence[Query],
    passages: Sequence[Passage],
    qrels: Mapping[str, Mapping[str, int]],
    *,
    by: SplitBy,
    shares: Mapping[Split, float],
    seed: int,
) -> tuple[Query, ...]:
    """Assigns a split to every query, by question or by document; translations of a question share a split.

    Args:
        queries: All queries of the data set, so that a later choice of languages does not change any split.
        passages: All passages.
        qrels: Query id -> passage id -> relevance.
        by: ``SplitBy.QUESTION`` or ``SplitBy.DOCUMENT``. With the latter, documents that share a question are shuffled
            as one unit.
        shares: See :func:`divide`.
        seed: See :func:`divide`.
    """
    if by is SplitBy.QUESTION:
        of_question = divide((q.parallel for q in queries), shares, seed)
        return tuple(replace(q, split=of_question[q.parallel]) for q in queries)
    group_of = _document_groups(queries, passages, qrels)
    of_group = divide(group_of.values(), shares, seed)
    return tuple(replace(q, split=of_group[group_of[q.parallel]]) for q in queries)


def check_parallel_together(name: str, queries: Iterable[Query]) -> None:
    """Raises DataError if translations of a question are in different splits."""
    seen: dict[str, Query] = {}
    for query in queries:
        other = seen.setdefault(query.parallel, query)
        if other.split is not query.split:
            raise DataError(
                f"data set {name!r}: the translations {other.id!r} and {query.id!r} of question {query.parallel!r} are "
                f"in different splits ({other.split.value} and {query.split.value}); a model would be tested on "
                "questions it was trained on"
            )


def _document_groups(
    queries: Sequence[Query], passages: Sequence[Passage], qrels: Mapping[str, Mapping[str, int]]
) -> dict[str, str]:
    """Question (``parallel``) -> group of its positives' documents, named after the smallest document id in it."""
    document_of = {p.id: p.document for p in passages}
    documents_of: defaultdict[str, set[str]] = defaultdict(set)
    for query in queries:
        documents_of[query.parallel].update(
            document_of[passage] for passage, relevance in qrels.get(query.id, {}).items() if relevance > 0
        )
    parent: dict[str, str] = {}

    def root(document: str) -> str:
        parent.setdefault(document, document)
        while parent[document] != document:
            parent[document] = parent[parent[document]]
            document = parent[document]
        return document

    for documents in documents_of.values():
        roots = {root(document) for document in documents}
        for other in roots:
            parent[other] = min(roots)
    return {question: root(min(documents)) for question, documents in documents_of.items()}
