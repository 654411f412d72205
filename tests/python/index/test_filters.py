"""Filters of a search: masks, rows and ids, against plain NumPy."""

import numpy as np
import pytest

import relkt

from .cases import assert_same, bits, brute_force, normal, small


@pytest.mark.parametrize("kind", ["mask", "rows", "integers", "strings"])
@pytest.mark.parametrize("queries", [1, 5, 70])
def test_filters_from_one_passage_to_all(kind, queries):
    rows, q = small(1, 5000, 24), small(2, queries, 24)
    random = np.random.default_rng(3)
    ids = {"integers": random.permutation(5000) + 10, "strings": np.array([f"id-{i}" for i in range(5000)])}.get(kind)
    index = relkt.Index(rows, ids=ids)
    for allowed in (0, 1, 9, 10, 11, 300, 4999, 5000):
        chosen = random.permutation(5000)[:allowed]
        if kind == "mask":
            allow = np.zeros(5000, dtype=bool)
            allow[chosen] = True
        else:
            allow = chosen if ids is None else ids[chosen]
        for k in (1, 10, 5000):
            hits = index.search(q, k, allow=allow)
            assert hits.indices.shape == (queries, min(k, allowed))
            assert_same(hits, brute_force(q, rows, k, chosen))


def test_a_filter_changes_no_bit_of_a_score():
    rows, q = normal(0, 3000, 50), normal(1, 20, 50)
    scores, order = relkt.search(q, rows, 3000)
    index = relkt.Index(rows)
    for share in (0.002, 0.1, 0.9):
        allow = np.random.default_rng(5).random(3000) < share
        hits = index.search(q, 40, allow=allow)
        kept = allow[order]
        for query in range(20):
            np.testing.assert_array_equal(hits.indices[query], order[query][kept[query]][: hits.indices.shape[1]])
            np.testing.assert_array_equal(bits(hits.scores[query]), bits(scores[query][kept[query]])[:40])


def test_filters_in_any_form_that_numpy_has():
    rows, q = small(1, 100), small(2, 3)
    index = relkt.Index(rows)
    chosen = [3, 50, 99]
    mask = np.zeros(100, dtype=bool)
    mask[chosen] = True
    expected = brute_force(q, rows, 10, chosen)
    strided, frozen = np.zeros(200, dtype=bool), mask.copy()
    strided[::2] = mask
    frozen.setflags(write=False)
    numbers = [np.array(chosen, dtype=kind) for kind in ("int8", "uint64", ">i4")]
    for allow in (mask, strided[::2], frozen, mask.tolist(), chosen, tuple(chosen), range(3, 100, 48)[:1], *numbers):
        wanted = expected if len(allow) > 1 else brute_force(q, rows, 10, [3])
        assert_same(index.search(q, 10, allow=allow), wanted)
    for allow in ([], (), np.zeros(100, dtype=bool), np.array([], dtype=np.int64)):
        hits = index.search(q, 10, allow=allow)
        assert (hits.scores.shape, hits.indices.shape) == ((3, 0), (3, 0))


ROWS = small(1, 4)


NAMES = ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("ids", "allow", "error", "message"),
    [
        (None, np.ones(5, dtype=bool), ValueError, r"allow: expected a mask of shape \(4,\), .*, got \(5,\)"),
        (None, np.ones((1, 4), dtype=bool), ValueError, r"allow: expected a mask of shape \(4,\), .*, got \(1, 4\)"),
        (None, [True, False], ValueError, r"allow: expected a mask of shape \(4,\), .*, got \(2,\)"),
        (None, [True, 1], TypeError, "allow: expected an integer or a string, got True at position 0"),
        (None, [0, 4], ValueError, "allow: entry 1 is the row 4, expected a row from 0 to 3"),
        (None, [-1], ValueError, "allow: entry 0 is the row -1, expected a row from 0 to 3"),
        (None, ["a"], TypeError, r"allow: expected row numbers \(the index has no ids\), got strings"),
        (None, [0.0], TypeError, "allow: expected an integer or a string, got 0.0 at position 0"),
        (None, np.array([[0]]), TypeError, r"allow: expected a 1-D array, got shape \(1, 1\)"),
        (None, "a", TypeError, "allow: expected a sequence of integers or strings, got 'a'"),
        (None, 3, TypeError, "allow: expected a sequence of integers or strings, got 3"),
        (NAMES, ["a", "e"], ValueError, "allow: there is no passage with the id 'e'"),
        (NAMES, ["a", 0], TypeError, "allow: expected a string, like the first, got 0 at position 1"),
        (NAMES, [0], ValueError, "allow: there is no passage with the id 0"),
        ([5, 6, 7, 8], [0], ValueError, "allow: there is no passage with the id 0"),
        ([5, 6, 7, 8], ["5"], ValueError, "allow: there is no passage with the id '5'"),
    ],
)
def test_filters_that_are_refused(ids, allow, error, message):
    index = relkt.Index(ROWS, ids=ids)
    with pytest.raises(error, match=message):
        index.search(ROWS, 1, allow=allow)


def test_an_array_of_bytes_is_not_a_mask():
    index = relkt.Index(np.eye(4, dtype=np.float32))
    with pytest.raises(
        TypeError, match="allow: expected a mask of dtype bool or ids, got uint8, which may mean either"
    ):
        index.search(np.eye(4, dtype=np.float32), 1, allow=np.array([1, 0, 0, 1], dtype=np.uint8))
