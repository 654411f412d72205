"""Data, oracles and comparisons that the tests of the index share."""

import json
import subprocess
import sys
import textwrap

import numpy as np

DIM = 4


FLOATS = [np.float32, np.float16]


def normal(seed, rows, dim, dtype=np.float32):
    return np.random.default_rng(seed).standard_normal((rows, dim)).astype(dtype)


def small(seed, rows, dim=DIM, dtype=np.float32):
    """Rows of small whole numbers: sums of products are exact, in any order of summation, and many scores tie."""
    values = np.random.default_rng(seed).integers(-2, 3, (rows, dim))
    values[:, -1] = 1  # No row of zeros.
    return values.astype(dtype)


def brute_force(queries, passages, k, rows=None):
    """The definition, over ``rows`` only: higher score first, then lower row. Exact for :func:`small` rows."""
    rows = np.arange(len(passages)) if rows is None else np.unique(np.asarray(rows, dtype=np.int64))
    q, p = queries.astype(np.float64), passages[rows].astype(np.float64)
    norms = np.sqrt((q * q).sum(axis=1))[:, None] * np.sqrt((p * p).sum(axis=1))
    scores = ((q @ p.T) / norms).astype(np.float32) + np.float32(0)
    order = np.argsort(-scores, axis=1, kind="stable")[:, : min(k, len(rows))]
    return np.take_along_axis(scores, order, axis=1), rows[order]


def assert_same(hits, expected):
    assert hits.scores.dtype == np.float32
    assert hits.indices.dtype == np.int64
    np.testing.assert_array_equal(hits.scores, expected[0])
    np.testing.assert_array_equal(hits.indices, expected[1])


def bits(array):
    return array.view(np.uint16 if array.dtype == np.float16 else np.uint32)


def assert_holds(index, rows, ids):
    assert (len(index), index.dim, index.dtype) == (*rows.shape, rows.dtype)
    assert np.array_equal(bits(index.embeddings()), bits(rows))
    assert index.has_ids == (ids is not None)
    assert index.ids.tolist() == (list(range(len(rows))) if ids is None else ids)


GOOD = normal(0, 40, 8)


IDS = {
    "none": lambda _: None,
    "integers": lambda n: np.arange(n) * 3 - 7,
    "strings": lambda n: [f"ü{i}" for i in range(n)],
}


def assert_same_index(index, expected):
    assert np.array_equal(bits(index.embeddings()), bits(expected.embeddings()))
    assert (index.dtype, index.has_ids) == (expected.dtype, expected.has_ids)
    assert index.ids.tolist() == expected.ids.tolist()
    for queries, k in ((1, 1), (5, len(expected)), (40, min(10, len(expected)))):
        q = normal(queries, queries, expected.dim)
        hits, wanted = index.search(q, k, threads=1), expected.search(q, k, threads=1)
        assert np.array_equal(hits.indices, wanted.indices)
        assert np.array_equal(bits(hits.scores), bits(wanted.scores))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def sections(path):
    """Start and end of each section in the file, and the metadata, read without relkt."""
    content = path.read_bytes()
    data = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:data])
    metadata = header.pop("__metadata__")
    return {name: tuple(data + at for at in info["data_offsets"]) for name, info in header.items()}, metadata


def run(script, *arguments, **options):
    """Run a script in a new process and return its output."""
    command = [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, **options).stdout
