"""Rows, ids, and checks that the tests of formats share."""

import numpy as np
import pytest

import relkt

pa = pytest.importorskip("pyarrow")

ROWS, DIM = 157, 12
FLOATS = [np.float32, np.float16]
IDS = {
    "none": None,
    "integers": [int(i) for i in np.random.default_rng(5).permutation(ROWS) - 3],
    "strings": [f"id-{i}-é" for i in range(ROWS)],
}


def normal(seed, rows=ROWS, dim=DIM, dtype=np.float32):
    return np.random.default_rng(seed).standard_normal((rows, dim)).astype(dtype)


def unit(seed, rows=ROWS, dim=DIM):
    rows = normal(seed, rows, dim).astype(np.float64)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def bits(array):
    return array.view(np.uint16 if array.dtype == np.float16 else np.uint32)


def assert_holds(index, rows, ids=None):
    """Assert that an index has these ids and, bit for bit, these rows, and searches like any other index."""
    assert index.dtype == rows.dtype
    assert np.array_equal(bits(index.embeddings()), bits(rows))
    assert index.has_ids == (ids is not None)
    assert index.ids.tolist() == (list(range(len(rows))) if ids is None else list(ids))
    queries = normal(99, 3, rows.shape[1])
    k = min(5, len(rows))
    hits, expected = index.search(queries, k, threads=1), relkt.search(queries, rows, k, threads=1)
    assert np.array_equal(hits.indices, expected.indices)
    assert np.array_equal(bits(hits.scores), bits(expected.scores))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def lists(rows, kind=None):
    """A column of fixed-size lists, or of another list type."""
    column = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])
    return column if kind is None else column.cast(kind)


def table(rows, ids=None, kind=None):
    columns = {"other": pa.array(range(len(rows))), "embedding": lists(rows, kind)}
    return pa.table(columns if ids is None else {**columns, "id": pa.array(ids)})
