"""Arguments of ``relkt.mine``: all forms of positives, and errors."""

import numpy as np
import pytest
from negatives_cases import ROWS, assert_same

import relkt


def test_positives_in_every_form():
    rng = np.random.default_rng(5)
    q, p = (rng.standard_normal((n, 4)).astype(np.float32) for n in (3, 20))
    forms = [
        [4, 5, 6],
        np.array([4, 5, 6]),
        np.array([4, 5, 6], dtype=np.uint8),
        np.array([[4, 4], [5, 5], [6, 6]]),
        [[4], [5], [6]],
        [np.array(4), np.array([5]), (6,)],
        [np.int32(4), {5}, range(6, 7)],
        np.array([[4, -1], [-1, 5], [6, 6]]),
        pytest.importorskip("torch").tensor([4, 5, 6]),
    ]
    first, *others = (relkt.mine(q, p, form) for form in forms)
    for other in others:
        assert_same(other, first)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"positives": [0, 1, 2]}, ValueError, "positives: expected 4 entries, one for each query, got 3"),
        ({"positives": [0, 1, 2, 4]}, ValueError, "positives: query 3 names the row 4, expected a row from 0 to 3"),
        ({"positives": [0, [1, 7], 2, 4]}, ValueError, "positives: query 1 names the row 7, expected a row from 0 to"),
        ({"positives": [0, 1, 2, -1]}, ValueError, "positives: query 3 names the row -1, expected a row from 0 to 3"),
        ({"positives": [0, 1, 2, 10**30]}, ValueError, "positives: query 3: expected an integer row number"),
        ({"positives": [0, 1, 2, True]}, TypeError, "positives: query 3: expected an integer row number"),
        ({"positives": [[0], [1], [], [2]], "num_hard": 1}, ValueError, "positives: query 2 has none; margins, hard"),
        ({"positives": None, "relative_margin": 0.1}, ValueError, "positives: query 0 has none"),
        ({"positives": [0, 1, 2, 1.5]}, TypeError, "positives: query 3: expected an integer row number"),
        ({"positives": [0, 1, 2, "3"]}, TypeError, "positives: query 3: expected a row or a list of rows, got '3'"),
        ({"positives": np.zeros(4)}, TypeError, "positives: expected integers, got dtype float64"),
        ({"positives": np.zeros((4, 1, 1), int)}, TypeError, r"positives: expected shape \(queries,\) or \(queries, "),
        ({"positives": np.full(4, 2**63, np.uint64)}, ValueError, r"positives: expected row numbers below 2\*\*63"),
        ({"positives": "0123"}, TypeError, "positives: expected a sequence with one entry for each query, got str"),
        ({"num_negatives": 0}, ValueError, "num_negatives, num_hard, num_semi_hard: expected at least one"),
        ({"num_hard": -1}, ValueError, "num_hard: expected an integer of at least 0, got -1"),
        ({"num_semi_hard": 1.0}, TypeError, "num_semi_hard: expected an integer of at least 0, got 1.0"),
        ({"strategy": "best"}, ValueError, "strategy: expected 'top' or 'random', got 'best'"),
        ({"range_min": -1}, ValueError, "range_min: expected an integer of at least 0, got -1"),
        ({"range_min": 2, "range_max": 4}, ValueError, r"range_max: expected at least range_min \+ num_negatives = 5"),
        ({"range_max": 0}, ValueError, "range_max: expected an integer of at least 1, or None, got 0"),
        ({"min_score": 0.5, "max_score": 0.4}, ValueError, "min_score: expected at most max_score = 0.4, got 0.5"),
        ({"max_score": float("nan")}, ValueError, "max_score: expected a finite number, or None, got nan"),
        ({"relative_margin": 10**400}, ValueError, "relative_margin: expected a finite number, or None, got 1000"),
        ({"absolute_margin": "wide"}, TypeError, "absolute_margin: expected a number, or None, got 'wide'"),
        ({"max_positive_similarity": True}, TypeError, "max_positive_similarity: expected a number, or None, got True"),
        ({"margin": -0.1}, ValueError, "margin: expected a number from 0 to 2, got -0.1"),
        ({"margin": float("nan")}, ValueError, "margin: expected a finite number, or None, got nan"),
        ({"margin": "wide"}, TypeError, "margin: expected a number, or None, got 'wide'"),
        ({"margin": 10**400}, ValueError, "margin: expected a finite number, or None, got 1000"),
        ({"num_hard": 1, "range_min": 1, "max_score": 1}, ValueError, "range_min: expected only with num_negatives"),
        (
            {"num_hard": 1, "absolute_margin": 0, "strategy": "random"},
            ValueError,
            "strategy, absolute_margin: expected only with num_negatives above 0",
        ),
        ({"positives": None, "groups": [0, 1, 2, 3]}, ValueError, "groups: expected only with positives"),
        (
            {"positives": None, "max_positive_similarity": 0.9},
            ValueError,
            "max_positive_similarity: expected only with",
        ),
        ({"strategy": np.ones(2)}, ValueError, "strategy: expected 'top' or 'random'"),
        ({"groups": [[0], [1, 2], 3, 4]}, TypeError, "groups: expected a 1-D array of integers, got list"),
        ({"exclude": np.array([[0], [1], [2], [-2]])}, ValueError, "exclude: query 3 names the row -2"),
        ({"num_semi_hard": 10**30}, ValueError, "num_semi_hard: expected an integer of at least 0, got 1000"),
        ({"num_negatives": 10**15}, MemoryError, "Unable to allocate"),
        (
            {"margin": 0.3},
            ValueError,
            "margin: expected only with num_semi_hard above 0, because it is the width of the semi-hard window",
        ),
        ({"relative_margin": 95}, ValueError, "relative_margin: expected a number from -2 to 2, got 95"),
        ({"max_score": 2}, ValueError, "max_score: expected a number from -1 to 1, got 2"),
        (
            {"max_positive_similarity": 95},
            ValueError,
            "max_positive_similarity: expected a number from -1 to",
        ),
        ({"groups": [0, 1, 2]}, ValueError, "groups: expected 4 values, one for each passage, got 3"),
        ({"groups": [0.5] * 4}, TypeError, "groups: expected a 1-D array of integers"),
        ({"exclude": [[0], [1], [2], [9]]}, ValueError, "exclude: query 3 names the row 9"),
        ({"exclude": [0, 1, 2, 3]}, TypeError, "exclude: query 0: expected a list of rows, got 0"),
        ({"exclude": np.arange(4)}, TypeError, r"exclude: expected shape \(queries, rows\), got \(4,\)"),
        ({"seed": 1.5}, TypeError, "seed: expected an integer, got 1.5"),
        ({"seed": -1}, ValueError, r"seed: expected an integer from 0 to 2\*\*64 - 1, got -1"),
        ({"block_size": 0}, ValueError, "block_size: expected an integer of at least 1, got 0"),
        ({"threads": 0}, ValueError, "threads: expected an integer of at least 1"),
        ({"queries": ROWS.astype(np.float64)}, TypeError, "queries: expected dtype float32 or float16, got float64"),
        ({"queries": ROWS * np.nan}, ValueError, "queries: expected finite values, got NaN at row 0, column 0"),
        ({"queries": ROWS * [[1], [1], [0], [1]]}, TypeError, "queries: expected dtype float32"),
        ({"queries": ROWS * np.float32([[1], [1], [0], [1]])}, ValueError, "queries: row 2 is all zeros"),
        ({"passages": ROWS * np.float32(np.inf)}, ValueError, "passages: expected finite values, got"),
        ({"passages": ROWS[:, :2]}, ValueError, "queries: expected dimension 2 like the passages, got 3"),
        ({"passages": ROWS[:0]}, ValueError, "passages: expected at least one row and one column"),
    ],
)
def test_bad_arguments(change, error, message):
    arguments = {"queries": ROWS, "passages": ROWS, "positives": [0, 1, 2, 3], "block_size": 2} | change
    with pytest.raises(error, match=message):
        relkt.mine(**arguments, progress=lambda _: pytest.fail("work was done before the arguments were checked"))


def test_progress_is_a_function():
    with pytest.raises(TypeError, match="progress: expected a function of a number of queries, got 5"):
        relkt.mine(ROWS, ROWS, progress=5)


def test_limits_may_underflow():
    with np.errstate(all="raise"):
        mined = relkt.mine(ROWS, ROWS, range(4), num_negatives=1, min_score=0, max_score=0, relative_margin=1)
    assert (mined.counts == 0).all()
    with np.errstate(all="raise"):
        assert relkt.mine(ROWS, ROWS, min_score=-1, max_score=1e-310).counts.max() < 4
