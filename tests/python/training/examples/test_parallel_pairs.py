"""Drawing pairs of parallel text by language, and holding some out."""

from __future__ import annotations

import numpy as np
import pytest

from relkt.data import DataError, Split
from relkt.data.parallel import Pair, ParallelText
from relkt.training.examples.parallel_pairs import MAX_HELD_OUT, draw_pairs, hold_out_pairs


def pairs_of(sizes: dict[str, int]) -> ParallelText:
    return ParallelText(
        tuple(Pair(f"text {n}", f"{code} {n}", code) for code, size in sizes.items() for n in range(size))
    )


@pytest.mark.parametrize(
    ("exponent", "count", "expected"),
    [
        (1.0, 110, {"de": 100, "el": 10}),
        (0.0, 20, {"de": 10, "el": 10}),
        (0.0, 300, {"de": 200, "el": 100}),  # a language with too few pairs leaves its share to the others
        (1.0, 1000, {"de": 909, "el": 91}),
        (0.5, 40, {"de": 30, "el": 10}),  # sqrt(1000) : sqrt(100) is 3.16 : 1
        (0.5, 5000, {"de": 1000, "el": 100}),
    ],
)
def test_shares_follow_the_exponent(exponent: float, count: int, expected: dict[str, int]) -> None:
    parallel = pairs_of({"de": 1000, "el": 100})
    rows = draw_pairs(parallel, count, exponent, np.random.default_rng(0))
    drawn = [parallel.pairs[row].language for row in rows]
    found = {code: drawn.count(code) for code in ("de", "el")}
    assert len(set(rows.tolist())) == len(rows) == min(count, 1100)
    assert found == expected


def test_draws_depend_on_the_generator_only() -> None:
    parallel = pairs_of({"de": 50, "el": 50})
    one, same, other = (draw_pairs(parallel, 20, 0.5, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one.tolist() == same.tolist()
    assert one.tolist() != other.tolist()
    assert draw_pairs(ParallelText(()), 5, 0.5, np.random.default_rng(0)).tolist() == []


def test_held_out_texts_are_in_one_split_and_in_no_training_pair() -> None:
    parallel = pairs_of({"de": 400, "el": 300, "th": 200})
    data, kept = hold_out_pairs(parallel, seed=0)
    train = {pair.english for pair in kept.pairs}
    held = {p.text: data.held_out[p.document] for p in data.passages if p.document in data.held_out}
    assert held
    assert not train & held.keys()
    assert {p.text for p in data.passages} - held.keys() <= train
    assert set(data.languages) == {"de", "el", "th"}
    for query in data.queries:
        (passage,) = data.positives(query.id)
        assert data.held_out[passage] is query.split
    assert {q.split for q in data.queries} == {Split.DEV, Split.TEST}
    assert not data.seen_by("train").queries
    assert kept.left_out == {"held out for dev and test": len(parallel) - len(kept)}


def test_held_out_pairs_are_limited_by_language() -> None:
    data, kept = hold_out_pairs(pairs_of({"de": 30_000}), seed=0)
    for split in (Split.DEV, Split.TEST):
        assert 400 <= sum(q.split is split for q in data.queries) <= MAX_HELD_OUT
    assert len(kept) > 28_000


def test_too_few_pairs() -> None:
    with pytest.raises(DataError, match="parallel: expected enough pairs to hold some out for the"):
        hold_out_pairs(pairs_of({"de": 2}), seed=0)
