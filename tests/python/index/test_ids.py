"""Passage ids."""

import numpy as np
import pytest

import relkt

from .cases import assert_same, brute_force, small

ROWS = small(1, 4)


NAMES = ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        (["a", "b", "a", "c"], ValueError, "ids: expected each id once, got 'a' for the passages 0 and 2"),
        ([3, 1, 2, 1], ValueError, "ids: expected each id once, got 1 for the passages 1 and 3"),
        ([1, 2, 3], ValueError, "ids: expected 4 values, one for each passage, got 3"),
        ([1, 2, "3", 4], TypeError, "ids: expected an integer, like the first, got '3' at position 2"),
        (["1", 2, "3", "4"], TypeError, "ids: expected a string, like the first, got 2 at position 1"),
        ([1, 2, None, 4], TypeError, "ids: expected an integer, like the first, got None at position 2"),
        ([1.0, 2.0, 3.0, 4.0], TypeError, "ids: expected an integer or a string, got 1.0 at position 0"),
        ([True, False, 2, 3], TypeError, "ids: expected an integer or a string, got True at position 0"),
        (np.array([2**63, 1, 2, 3], dtype=np.uint64), ValueError, r"ids: expected numbers below 2\*\*63"),
        ([1, 2, 3, 2**63], ValueError, "ids: expected 64-bit integers, got 9223372036854775808 at position 3"),
        ("abcd", TypeError, "ids: expected a sequence of integers or strings, got 'abcd'"),
        (7, TypeError, "ids: expected a sequence of integers or strings, got 7"),
        (np.arange(4).reshape(2, 2), TypeError, r"ids: expected a 1-D array, got shape \(2, 2\)"),
    ],
)
def test_ids_that_are_refused(tmp_path, ids, error, message):
    with pytest.raises(error, match=message):
        relkt.Index(ROWS, ids=ids)
    with pytest.raises(error, match=message):
        relkt.Index.build(tmp_path / "index.relkt", [ROWS], rows=4, ids=ids)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "ids",
    [
        [0, -1, 2**63 - 1, -(2**63)],
        np.array([4, 3, 2, 1], dtype=np.uint8),
        np.array(["ä", "", "日本", "a" * 1000]),
        ["with\0zero", "\U0001f600", " ", "\n"],
    ],
)
def test_ids_of_any_kind(tmp_path, ids):
    index = relkt.Index(ROWS, ids=ids)
    index.save(tmp_path / "index.relkt")
    for found in (index, relkt.Index.open(tmp_path / "index.relkt", verify=True)):
        assert found.ids.tolist() == list(ids)
        assert_same(found.search(ROWS, 4, allow=[list(ids)[2]]), brute_force(ROWS, ROWS, 4, [2]))


def test_ids_are_a_copy():
    index = relkt.Index(ROWS, ids=[1, 2, 3, 4])
    index.ids[0] = 9
    assert index.ids.tolist() == [1, 2, 3, 4]
