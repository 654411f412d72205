"""Mining against its definition, applied to the full matrix of scores, and at its border."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import relkt
from relkt._relkt import available_kernels


def definition(queries, passages, positives, num_hard, num_semi_hard, margin, groups, exclude):
    """Rows of hard and semi-hard negatives, -1 where there is none."""
    hits = relkt.search(queries, passages, len(passages))
    scores = np.empty(hits.scores.shape)
    np.put_along_axis(scores, hits.indices, hits.scores.astype(np.float64), axis=1)
    hard, semi_hard = [], []
    for query, own in enumerate(scores):
        limit = min(own[row] for row in positives[query])
        banned = set(positives[query]) | set(exclude[query] if exclude else ())
        if groups is not None:
            banned |= {row for row in range(len(passages)) if groups[row] in {groups[p] for p in positives[query]}}
        order = [row for row in hits.indices[query] if row not in banned]
        pad = lambda rows, num: (list(rows) + [-1] * num)[:num]  # noqa: E731
        hard.append(pad([row for row in order if own[row] > limit], num_hard))
        semi_hard.append(pad([row for row in order if limit - margin < own[row] < limit], num_semi_hard))
    return np.array(hard, dtype=np.int64), np.array(semi_hard, dtype=np.int64)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 70), st.integers(1, 60), st.integers(0, 4), st.integers(0, 4), st.data())
def test_equals_the_definition(seed, queries, rows, num_hard, num_semi_hard, data):
    num_hard, num_semi_hard = min(num_hard, rows), min(num_semi_hard, rows)
    if num_hard + num_semi_hard == 0:
        num_hard = 1
    rng = np.random.default_rng(seed)
    margin = data.draw(st.sampled_from([0.0, 0.05, 0.3, 2.0]))
    # Whole numbers tie, reals do not.
    make = rng.standard_normal if data.draw(st.booleans()) else lambda shape: rng.integers(1, 4, shape)
    q, p = make((queries, 4)).astype(np.float32), make((rows, 4)).astype(np.float32)
    positives = [rng.integers(0, rows, rng.integers(1, 4)).tolist() for _ in range(queries)]
    groups = rng.integers(-3, 9, rows) if data.draw(st.booleans()) else None
    exclude = [rng.integers(0, rows, rng.integers(0, 5)).tolist() for _ in range(queries)]
    exclude = exclude if data.draw(st.booleans()) else None
    options = {"num_hard": num_hard, "num_semi_hard": num_semi_hard, "margin": margin}
    mined = relkt.mine(q, p, positives, groups=groups, exclude=exclude, **options)
    hard, semi_hard = definition(q, p, positives, **options, groups=groups, exclude=exclude)
    assert np.array_equal(mined.hard_indices, hard)
    assert np.array_equal(mined.semi_hard_indices, semi_hard)
    assert np.array_equal(np.isnan(mined.hard_scores), hard == -1)
    assert np.array_equal(np.isnan(mined.semi_hard_scores), semi_hard == -1)


def test_scores_are_those_of_search():
    rng = np.random.default_rng(3)
    q, p = (rng.standard_normal((n, 24)).astype(np.float32) for n in (9, 300))
    mined = relkt.mine(q, p, np.arange(9), num_hard=5, num_semi_hard=5, margin=0.2)
    hits = relkt.search(q, p, 300)
    score = {(i, row): s for i in range(9) for row, s in zip(hits.indices[i], hits.scores[i], strict=True)}
    for i in range(9):
        assert mined.positive_scores[i] == score[i, i]
        for rows, scores in (
            (mined.hard_indices, mined.hard_scores),
            (mined.semi_hard_indices, mined.semi_hard_scores),
        ):
            for row, s in zip(rows[i], scores[i], strict=True):
                assert (row == -1 and np.isnan(s)) or s == score[i, row]


def test_kernels_and_threads_agree(monkeypatch):
    rng = np.random.default_rng(4)
    q, p = (rng.standard_normal((n, 40)).astype(np.float32) for n in (100, 20_000))
    options = {"num_hard": 7, "num_semi_hard": 7, "margin": 0.3, "groups": np.arange(20_000) // 5}
    reference = relkt.mine(q, p, np.arange(100), threads=1, **options)
    for kernel in available_kernels():
        monkeypatch.setenv("RELKT_KERNEL", kernel)
        for threads in (1, 2):
            mined = relkt.mine(q, p, np.arange(100), threads=threads, **options)
            for name in ("hard_indices", "hard_scores", "semi_hard_indices", "semi_hard_scores", "positive_scores"):
                assert np.array_equal(getattr(mined, name), getattr(reference, name), equal_nan="scores" in name)


def test_positives_in_every_form():
    rng = np.random.default_rng(5)
    q, p = (rng.standard_normal((n, 4)).astype(np.float32) for n in (3, 20))
    forms = [[4, 5, 6], np.array([4, 5, 6]), [[4], [5], [6]], [np.array(4), np.array([5]), (6,)]]
    first, *others = (relkt.mine(q, p, form) for form in forms)
    assert all(np.array_equal(first.hard_indices, other.hard_indices) for other in others)


ROWS = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"positives": [0, 1, 2]}, ValueError, "positives: expected 4 entries, one for each query, got 3"),
        ({"positives": [0, 1, 2, 4]}, ValueError, "positives: query 3 names the row 4, expected a row from 0 to 3"),
        ({"positives": [0, 1, 2, -1]}, ValueError, "positives: query 3: expected an integer row number of at least 0"),
        ({"positives": [[0], [1], [], [2]]}, ValueError, "positives: query 2 has none"),
        ({"positives": [0, 1, 2, 1.5]}, TypeError, "positives: query 3: expected an integer row number"),
        ({"positives": np.zeros(4)}, TypeError, "positives: expected integers, got dtype float64"),
        ({"positives": "0123"}, TypeError, "positives: expected a sequence with one entry for each query, got str"),
        ({"num_hard": 0, "num_semi_hard": 0}, ValueError, "num_hard, num_semi_hard: expected at least one"),
        ({"num_hard": -1}, ValueError, "num_hard: expected an integer of at least 0, got -1"),
        ({"num_semi_hard": 1.0}, TypeError, "num_semi_hard: expected an integer of at least 0, got 1.0"),
        ({"margin": -0.1}, ValueError, "margin: expected a number from 0 to 2, got -0.1"),
        ({"margin": float("nan")}, ValueError, "margin: expected a number from 0 to 2, got nan"),
        ({"margin": "wide"}, TypeError, "margin: expected a number from 0 to 2, got 'wide'"),
        ({"margin": 10**400}, ValueError, "margin: expected a number from 0 to 2, got 1000"),
        ({"num_hard": 5}, ValueError, "num_hard: expected a number from 0 to 4, the number of passages, got 5"),
        ({"num_semi_hard": 10**12}, ValueError, "num_semi_hard: expected a number from 0 to 4"),
        ({"groups": [0, 1, 2]}, ValueError, "groups: expected 4 values, one for each passage, got 3"),
        ({"groups": [0.5] * 4}, TypeError, "groups: expected a 1-D array of integers"),
        ({"exclude": [[0], [1], [2], [9]]}, ValueError, "exclude: query 3 names the row 9"),
        ({"exclude": [0, 1, 2, 3]}, TypeError, "exclude: query 0: expected a list of rows, got 0"),
        ({"queries": ROWS.astype(np.float64)}, TypeError, "queries: expected dtype float32 or float16, got float64"),
        ({"passages": ROWS[:, :2]}, ValueError, "queries: expected dimension 2 like the passages, got 3"),
    ],
)
def test_bad_arguments(change, error, message):
    arguments = {"queries": ROWS, "passages": ROWS, "positives": [0, 1, 2, 3]} | change
    with pytest.raises(error, match=message):
        relkt.mine(**arguments)
