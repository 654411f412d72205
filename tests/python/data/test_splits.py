"""Splits: exact sizes, translations together, documents apart, deterministic."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relkt.data import DataError, Passage, Query, Split, SplitBy
from relkt.data.splits import assign_splits, check_fractions, check_parallel_together, divide

SHARES = {Split.TRAIN: 0.6, Split.DEV: 0.2, Split.TEST: 0.2}


def test_divide_is_the_same_on_every_platform_and_version() -> None:
    # Fixed values: another order would silently change every published number.
    parts = divide([f"q{i}" for i in range(10)], SHARES, seed=42)
    assert " ".join(parts[f"q{i}"].value for i in range(10)) == (
        "train train test test dev train train dev train train"
    )


def test_another_seed_divides_differently() -> None:
    units = [f"q{i}" for i in range(50)]
    assert divide(units, SHARES, seed=1) != divide(units, SHARES, seed=2)


def test_split_sizes_of_xquad_match_the_paper() -> None:
    sizes = Counter(divide((str(i) for i in range(1190)), SHARES, seed=0).values())
    assert sizes == {Split.TRAIN: 714, Split.DEV: 238, Split.TEST: 238}


@given(units=st.sets(st.text(max_size=4), min_size=5, max_size=60), seed=st.integers(0, 5), order=st.randoms())
def test_divide_gives_exact_sizes_in_any_order_of_the_units(units: set[str], seed: int, order: random.Random) -> None:
    shuffled = list(units) * 2
    order.shuffle(shuffled)
    parts = divide(shuffled, SHARES, seed)
    assert parts == divide(sorted(units), SHARES, seed)
    assert set(parts) == units
    sizes = Counter(parts.values())
    for split, share in SHARES.items():
        assert abs(sizes[split] - share * len(units)) < 1


@pytest.mark.parametrize("fractions", [(0.6, 0.2), (0.6, 0.2, 0.3), (1.2, -0.1, -0.1), (float("nan"), 0.5, 0.5)])
def test_fractions_must_be_three_shares_of_one(fractions: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="split_fractions"):
        check_fractions(fractions)


def test_a_split_that_would_be_empty_is_refused() -> None:
    with pytest.raises(DataError, match="too few to give test its share"):
        divide(["a", "b"], SHARES, seed=0)
    assert set(divide(["a", "b"], {Split.TRAIN: 0.0, Split.DEV: 0.0, Split.TEST: 1.0}, seed=0).values()) == {Split.TEST}


def corpus(draw_documents: list[list[int]]) -> tuple[list[Query], list[Passage], dict[str, dict[str, int]]]:
    """Questions in two languages; the positives of question i are in the documents draw_documents[i]."""
    passages = [Passage(f"p{d}", "text", f"d{d}") for d in range(12)]
    queries = [Query(f"q{i}-{x}", "?", x, f"q{i}") for i in range(len(draw_documents)) for x in ("en", "de")]
    qrels = {q.id: {f"p{d}": 1 for d in draw_documents[int(q.parallel[1:])]} for q in queries}
    return queries, passages, qrels


@given(
    st.lists(st.integers(0, 11), min_size=12, max_size=40), st.integers(0, 3), st.sampled_from(["question", "document"])
)
def test_translations_stay_together_and_documents_apart(documents: list[int], seed: int, by: str) -> None:
    chosen = [[d] for d in documents] + [[d] for d in range(12)]
    queries, passages, qrels = corpus(chosen)
    split = assign_splits(queries, passages, qrels, by=SplitBy(by), shares=SHARES, seed=seed)
    check_parallel_together("toy", split)
    assert [q.id for q in split] == [q.id for q in queries]
    if by == "document":
        of_document: dict[str, set[Split]] = {}
        for query in split:
            for passage in qrels[query.id]:
                of_document.setdefault(passage, set()).add(query.split)
        assert all(len(splits) == 1 for splits in of_document.values())
        # 12 documents: cumulative rounding turns 7.2, 2.4, 2.4 into 7, 3, 2.
        sizes = Counter(next(iter(splits)) for splits in of_document.values())
        assert sizes == {Split.TRAIN: 7, Split.DEV: 3, Split.TEST: 2}


def test_documents_that_share_a_question_share_a_split() -> None:
    chain = [[0, 1], [1, 2], [2, 3]] + [[d] for d in range(12)]
    queries, passages, qrels = corpus(chain)
    for seed in range(5):
        split = assign_splits(queries, passages, qrels, by=SplitBy.DOCUMENT, shares=SHARES, seed=seed)
        assert len({q.split for q in split if int(q.parallel[1:]) < 3 or qrels[q.id].keys() & {"p0", "p3"}}) == 1


def test_translations_in_two_splits_are_refused() -> None:
    queries = [Query("a-en", "?", "en", "a", Split.TRAIN), Query("a-de", "?", "de", "a", Split.TEST)]
    with pytest.raises(DataError, match="'a-en' and 'a-de' of question 'a' are in different splits"):
        check_parallel_together("toy", queries)
