"""Train, dev and test: which question belongs where."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from enum import Enum
from fractions import Fraction

from relkt.data.types import DataError, Passage, Query, Split

DEFAULT_FRACTIONS = (0.6, 0.2, 0.2)
"""Shares of train, dev and test: those of the paper for XQuAD (section 3.1)."""
DEFAULT_SEED = 42
"""Seed of the split."""


class SplitBy(str, Enum):
    """What decides the split of a question."""

    AUTO = "auto"
    """The data set's own parts where it has several (BEIR layout), else by question."""
    QUESTION = "question"
    """Shuffle the questions: a question's translations stay together, its passage may be seen in training."""
    DOCUMENT = "document"
    """Shuffle the documents: nothing of a test question's document is seen in training."""
    OFFICIAL = "official"
    """The parts the data set is published in, under their own names."""
    PAPER = "paper"
    """As the CL-ReLKT authors used the published parts; each reader's documentation says how."""


def divide(units: Iterable[str], shares: Mapping[Split, float], seed: int) -> dict[str, Split]:
    """Shuffles units and cuts them into parts of exact size.

    The order is that of the SHA-256 digests of ``"seed:unit"``, so it depends on nothing but the seed and the set of
    units: not on their order, the platform, or the Python version. Of n units, a part ends at its cumulative share
    times n, rounded half up; the sizes therefore add up to n and differ from share * n by less than 1.

    Args:
        units: Ids of what is divided; repeated ids count once.
        shares: Split -> share, in order; non-negative, summing to 1.
        seed: Another seed gives another division.

    Returns:
        Unit -> split.

    Raises:
        DataError: If a split with a share above 0 would get nothing.
    """
    ordered = sorted(set(units), key=lambda unit: (hashlib.sha256(f"{seed}:{unit}".encode()).digest(), unit))
    out: dict[str, Split] = {}
    # Exact fractions: 0.6 + 0.2 is 0.8 then, and rounding does not depend on float errors.
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
    """Split -> share, from the shares of train, dev and test.

    Raises:
        ValueError: If there are not three, one is negative or not a number, or they do not sum to 1.
    """
    shares = tuple(float(f) for f in fractions)
    if len(shares) != 3 or not all(share >= 0 for share in shares) or abs(sum(shares) - 1) > 1e-9:
        raise ValueError(
            f"split_fractions: expected three non-negative shares (train, dev, test) that sum to 1, got {fractions!r}"
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
    """Gives every query its split, by question or by document; translations of one question are never separated.

    Args:
        queries: All queries of the data set, so that a later choice of languages changes no query's split.
        passages: All passages.
        qrels: Query id -> passage id -> relevance.
        by: ``SplitBy.QUESTION`` or ``SplitBy.DOCUMENT``. By document, the unit that is shuffled is a document, or
            several documents if one question is answered in all of them.
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
    """Raises DataError if two translations of one question are in different splits."""
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
    """Question (``parallel``) -> the group of documents it is answered in, named by its smallest document id."""
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
