"""Boolean masks with bytes other than 0 and 1, which NumPy treats as true: every function must allow the same rows."""

import numpy as np
import pytest

import relkt
from relkt._relkt import Passages

ROWS = np.random.default_rng(1).standard_normal((256, 8)).astype(np.float32)
QUERIES = np.random.default_rng(2).standard_normal((3, 8)).astype(np.float32)


def index_search(allow):
    return relkt.Index(ROWS).search(QUERIES, len(ROWS), allow=allow).indices


def file_search(allow, path):
    relkt.Index(ROWS).save(path)
    return relkt.Index.open(path).search(QUERIES, len(ROWS), allow=allow).indices


def module_search(allow):
    return relkt.search(QUERIES, ROWS, len(ROWS), allow=allow).indices


def extension_search(allow):
    return Passages(ROWS, False, 1).search_counted(QUERIES, len(ROWS), allow, 1)[1]


def extension_select(allow):
    passages = Passages(ROWS, False, 1)
    if not (allow.view(np.uint8) != 0).any():
        return np.empty((1, 0), dtype=np.int64)
    passages.select(allow, 1)
    kept = passages.take(np.arange(passages.rows))
    return np.flatnonzero((ROWS[:, None, :] == kept[None]).all(axis=2).any(axis=1))[None]


ENTRY_POINTS = [index_search, module_search, extension_search, extension_select]


def assert_only(allow, indices):
    """Each query gets every allowed row and no other."""
    expected = np.flatnonzero(allow.view(np.uint8) != 0)
    for found in indices:
        np.testing.assert_array_equal(np.sort(found), expected)


@pytest.mark.parametrize("search", ENTRY_POINTS)
@pytest.mark.parametrize("row", [0, 14, 15, 100, 255])
def test_every_byte_but_zero_allows_its_own_row_only(search, row):
    for byte in range(256):
        values = np.zeros(len(ROWS), dtype=np.uint8)
        values[row] = byte
        allow = values.view(bool)
        assert_only(allow, search(allow))


@pytest.mark.parametrize("search", ENTRY_POINTS)
def test_masks_that_hold_all_bytes(search):
    random = np.random.default_rng(3)
    for _ in range(20):
        allow = np.frombuffer(random.permutation(256).astype(np.uint8).tobytes(), dtype=bool)
        assert_only(allow, search(allow))


@pytest.mark.parametrize("search", ENTRY_POINTS)
@pytest.mark.parametrize("bit", [1, 2, 4, 8, 16, 32, 64, 128])
def test_masks_of_one_flag(search, bit):
    flags = np.random.default_rng(bit).integers(0, 256, len(ROWS)).astype(np.uint8)
    allow = (flags & bit).view(bool)
    assert_only(allow, search(allow))


@pytest.mark.parametrize("search", ENTRY_POINTS)
def test_strided_and_reversed_masks(search):
    values = np.random.default_rng(4).integers(0, 4, 2 * len(ROWS)).astype(np.uint8) * 60
    for allow in (values.view(bool)[::2], values.view(bool)[::-2]):
        indices = search(allow)
        expected = np.flatnonzero(np.ascontiguousarray(allow).view(np.uint8) != 0)
        for found in indices:
            np.testing.assert_array_equal(np.sort(found), expected)


def test_an_index_file_is_filtered_alike(tmp_path):
    allow = np.arange(256, dtype=np.uint8).view(bool)
    assert_only(allow, file_search(allow, tmp_path / "rows.relkt"))


def test_with_ids_and_a_removal():
    index = relkt.Index(ROWS, ids=[f"passage {row}" for row in range(len(ROWS))])
    allow = (np.arange(256, dtype=np.uint8) & 6).view(bool)
    assert_only(allow, index.search(QUERIES, len(ROWS), allow=allow).indices)
    index.remove(["passage 6"])
    left = np.delete(allow, 6)
    assert_only(left, index.search(QUERIES, len(index), allow=left).indices)
