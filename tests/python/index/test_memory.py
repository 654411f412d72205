"""Indexes larger than memory, and failed allocations."""

import textwrap
from pathlib import Path

import numpy as np
import pytest

from .cases import FLOATS, names, run


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="limits memory as Linux counts it")
@pytest.mark.parametrize("dtype", FLOATS)
def test_larger_than_memory(tmp_path, dtype):
    """Builds, searches and filters 64 MiB of rows with 16 MiB of memory beyond the loaded libraries."""
    dim = 256
    size = (64 << 20) // (dim * np.dtype(dtype).itemsize)
    path, found = tmp_path / "index.relkt", tmp_path / "hits.npz"
    run(
        """
        import resource, sys
        import numpy as np, relkt
        path, found, dtype, size, dim = sys.argv[1:4] + list(map(int, sys.argv[4:]))

        def batches(size):
            for start in range(0, size, 1024):
                yield np.random.default_rng(start).standard_normal((1024, dim), dtype=np.float32).astype(dtype)

        queries = np.random.default_rng(7**7).standard_normal((20, dim), dtype=np.float32)
        relkt.Index.build(path, batches(2048), rows=2048, threads=1).search(queries, 100, threads=1)  # As a warm-up.
        status = dict(line.split(":", 1) for line in open("/proc/self/status"))
        limit = (int(status["VmData"].split()[0]) << 10) + (16 << 20)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

        index = relkt.Index.build(path, batches(size), rows=size, threads=1)
        allow = np.arange(size) % 7 == 3
        hits = [index.search(queries[:n], k, threads=1) for n, k in ((1, 10), (20, 100))]
        hits.append(index.search(queries, 10, allow=allow, threads=1))
        np.savez(found, *(array for hit in hits for array in hit))
        """,
        path,
        found,
        np.dtype(dtype).name,
        size,
        dim,
    )
    assert path.stat().st_size > 64 << 20

    queries = np.random.default_rng(7**7).standard_normal((20, dim), dtype=np.float32)
    unit = queries.astype(np.float64) / np.linalg.norm(queries.astype(np.float64), axis=1, keepdims=True)
    scores = np.empty((20, size), dtype=np.float32)
    for start in range(0, size, 1024):
        batch = np.random.default_rng(start).standard_normal((1024, dim), dtype=np.float32)
        batch = batch.astype(dtype).astype(np.float64)
        scores[:, start : start + 1024] = unit @ batch.T / np.linalg.norm(batch, axis=1)
    arrays = list(np.load(found).values())
    allowed = np.where(np.arange(size) % 7 == 3, scores, -np.inf)
    for got_scores, got, reference in (
        (*arrays[0:2], scores[:1]),
        (*arrays[2:4], scores),
        (*arrays[4:6], allowed),
    ):
        order = np.argsort(-reference, axis=1, kind="stable")[:, : got.shape[1]]
        expected = np.take_along_axis(reference, order, axis=1)
        # A float64 sum in another order may round to the neighbouring float32, and swap two such scores.
        np.testing.assert_array_max_ulp(got_scores, expected, maxulp=1)
        at = got != order
        np.testing.assert_array_max_ulp(np.take_along_axis(reference, got, axis=1)[at], expected[at], maxulp=1)


LIMITED = """
    import resource, sys
    import numpy as np, relkt

    def limit(mib):
        status = dict(line.split(":", 1) for line in open("/proc/self/status"))
        soft = (int(status["VmData"].split()[0]) << 10) + int(mib * 2**20)
        resource.setrlimit(resource.RLIMIT_DATA, (soft, resource.RLIM_INFINITY))

    def unlimit():
        resource.setrlimit(resource.RLIMIT_DATA, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    rows = np.random.default_rng(0).standard_normal((1 << 14, 256), dtype=np.float32)  # 16 MiB
    queries = rows[:10] + 1

    def state(index):
        hits = index.search(queries, 50, threads=1)
        return len(index), index.ids.tolist(), hits.scores.tobytes(), hits.indices.tobytes()
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="limits memory as Linux counts it")
@pytest.mark.parametrize("what", ["Index(rows)", "index.add(rows[:9])", "index.remove([5])", "index.embeddings()"])
def test_too_little_memory_for_a_copy(tmp_path, what):
    path = tmp_path / "index.relkt"
    script = """
    relkt.Index(rows).save(sys.argv[1])
    index = relkt.Index.open(sys.argv[1])
    before = state(index)
    what = eval("lambda: " + sys.argv[2], {"index": index, "rows": rows, "Index": relkt.Index})
    limit(8)
    try:
        what()
    except MemoryError as error:
        unlimit()
        assert state(index) == before and str(index.path) == sys.argv[1]
        print(error)
    """
    out = run(textwrap.dedent(LIMITED) + textwrap.dedent(script), path, what)
    assert "could not allocate" in out


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="limits memory as Linux counts it")
def test_an_addition_that_memory_ends_anywhere_in(tmp_path):
    # With a little more memory each time, until there is enough.
    script = """
    index = relkt.Index(rows, ids=range(len(rows)))
    before, refused = state(index), 0
    for mib in np.arange(4, 100, 1.5):
        limit(mib)
        try:
            index.add(rows[::-1], ids=range(-len(rows), 0), threads=1)
        except MemoryError:
            unlimit()
            refused += 1
            assert state(index) == before
            continue
        break
    unlimit()
    whole = relkt.Index(np.concatenate([rows, rows[::-1]]), ids=[*range(len(rows)), *range(-len(rows), 0)])
    assert state(index) == state(whole)
    print(refused)
    """
    assert int(run(textwrap.dedent(LIMITED) + textwrap.dedent(script))) > 5
    assert names(tmp_path) == []
