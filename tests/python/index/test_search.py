"""Search: against a float64 brute force, and at its border."""

import multiprocessing as mp
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import relkt
from relkt._relkt import available_kernels

KERNELS = ["avx512", "avxvnni", "avx2", "neon", "scalar"]


def brute_force(queries, passages, k):
    """The definition: cosines in float64, rounded to float32; higher score first, then lower row."""
    q, p = queries.astype(np.float64), passages.astype(np.float64)
    scores = (q @ p.T) / (np.linalg.norm(q, axis=1)[:, None] * np.linalg.norm(p, axis=1))
    scores = scores.astype(np.float32)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, order, axis=1), order


def assert_same(hits, expected):
    scores, indices = expected
    assert hits.scores.dtype == np.float32
    assert hits.indices.dtype == np.int64
    # A float64 sum in another order may round to the neighbouring float32, once in some hundred million scores.
    np.testing.assert_array_max_ulp(hits.scores, scores, maxulp=1)
    differ = hits.indices != indices
    assert np.all(np.abs(hits.scores[differ] - scores[differ]) <= np.spacing(np.abs(scores[differ])))


def normal(seed, rows, dim):
    return np.random.default_rng(seed).standard_normal((rows, dim)).astype(np.float32)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dim", [1, 2, 15, 17, 384, 767])
def test_equals_brute_force(monkeypatch, kernel, dim):
    if kernel not in available_kernels():
        pytest.skip(f"this processor cannot run the kernel {kernel}; it can run {', '.join(available_kernels())}")
    monkeypatch.setenv("RELKT_KERNEL", kernel)
    for rows in (1, 13, 1000):
        for queries in (1, 4, 65):
            p, q = normal(rows, rows, dim), normal(queries, queries, dim)
            for k in {1, min(10, rows), rows}:
                for threads in (1, 2):
                    assert_same(relkt.search(q, p, k, threads=threads), brute_force(q, p, k))


def test_results_are_the_same_bits_for_every_kernel_thread_count_and_batch(monkeypatch):
    p, q = normal(0, 30_000, 96), normal(1, 70, 96)
    reference = relkt.search(q, p, 20, threads=1)
    for kernel in available_kernels():
        monkeypatch.setenv("RELKT_KERNEL", kernel)
        index = relkt.Index(p)
        for threads in (1, 2, 3):
            hits = index.search(q, 20, threads=threads)
            assert np.array_equal(hits.scores.view(np.int32), reference.scores.view(np.int32))
            assert np.array_equal(hits.indices, reference.indices)
        for query in (0, 63, 69):
            hits = index.search(q[query : query + 1], 20)
            assert np.array_equal(hits.scores[0], reference.scores[query])
            assert np.array_equal(hits.indices[0], reference.indices[query])


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(np.int8, st.tuples(st.integers(1, 40), st.just(3)), elements=st.integers(-2, 2)),
    hnp.arrays(np.int8, st.tuples(st.integers(1, 9), st.just(3)), elements=st.integers(-2, 2)),
    st.integers(1, 40),
)
def test_ties_go_to_the_lower_row(passages, queries, k):
    # Few distinct rows, so that most scores tie; the fourth column keeps every row nonzero.
    p = np.column_stack([passages, np.ones(len(passages))]).astype(np.float32)
    q = np.column_stack([queries, np.ones(len(queries))]).astype(np.float32)
    k = min(k, len(p))
    hits = relkt.search(q, p, k)
    scores, indices = hits
    for row_scores, row_indices in zip(scores, indices, strict=True):
        pairs = list(zip(-row_scores.astype(float), row_indices, strict=True))
        assert pairs == sorted(pairs)
    assert_same(hits, brute_force(q, p, k))
    # Equal rows have equal scores, so among them the lower row comes first and none is skipped.
    for found in indices:
        for row in found:
            twins = np.flatnonzero((p == p[row]).all(axis=1))
            assert set(twins[twins < row]) <= set(found)


def test_float16_is_the_same_as_its_float32_values():
    p, q = normal(0, 200, 40).astype(np.float16), normal(1, 5, 40).astype(np.float16)
    hits = relkt.search(q, p)
    expected = relkt.search(q.astype(np.float32), p.astype(np.float32))
    assert np.array_equal(hits.scores, expected.scores)
    assert np.array_equal(hits.indices, expected.indices)


def test_any_memory_order_and_read_only_arrays():
    p, q = normal(0, 200, 40), normal(1, 6, 40)
    expected = relkt.search(q[::2], p)
    frozen = np.asfortranarray(p)
    frozen.setflags(write=False)
    hits = relkt.search(np.repeat(q, 2, axis=0)[::4], frozen)
    assert np.array_equal(hits.indices, expected.indices)
    assert np.array_equal(hits.scores, expected.scores)


def test_unaligned_arrays():
    p, q = normal(0, 50, 8), normal(1, 3, 8)
    shifted = np.frombuffer(b"\0" + p.tobytes(), dtype=np.uint8)[1:].view(np.float32).reshape(p.shape)
    assert not shifted.flags.aligned
    assert np.array_equal(relkt.search(q, shifted).indices, relkt.search(q, p).indices)


def test_a_negative_zero_ties_with_zero():
    q = np.array([[1e-30, 1, 0]], dtype=np.float32)
    p = np.array([[-1e-30, 0, 1], [0, 0, 1]], dtype=np.float32)
    assert relkt.search(q, p, 2).indices.tolist() == [[0, 1]]


def test_masked_arrays_are_refused():
    with pytest.raises(TypeError, match="queries: expected a plain array, got a masked one"):
        relkt.search(np.ma.masked_array(ROWS, mask=ROWS > 0), ROWS, 1)


def test_the_index_keeps_its_own_copy():
    p, q = normal(0, 100, 8), normal(1, 3, 8)
    index = relkt.Index(p)
    before = index.search(q)
    p[:] = 1.0
    assert np.array_equal(index.search(q).indices, before.indices)
    assert (len(index), index.dim) == (100, 8)
    assert index.nbytes >= 100 * 8 * 4
    assert repr(index) == f"Index(passages=100, dim=8, dtype=float32, nbytes={index.nbytes})"


ROWS = normal(0, 4, 3)


@pytest.mark.parametrize(
    ("queries", "passages", "k", "error", "message"),
    [
        (ROWS.tolist(), ROWS, 1, TypeError, "queries: expected a 2-D NumPy array of float32 or float16, got list"),
        (ROWS.astype(np.float64), ROWS, 1, TypeError, "queries: expected dtype float32 or float16, got float64"),
        (ROWS, ROWS.astype(np.int32), 1, TypeError, "passages: expected dtype float32 or float16, got int32"),
        (ROWS[0], ROWS, 1, TypeError, r"queries: expected 2 dimensions \(rows, columns\), got shape \(3,\)"),
        (ROWS[:, :2], ROWS, 1, ValueError, "queries: expected dimension 3 like the passages, got 2"),
        (ROWS[:0], ROWS, 1, ValueError, r"queries: expected at least one row and one column, got shape \(0, 3\)"),
        (ROWS, ROWS[:0], 1, ValueError, r"passages: expected at least one row and one column, got shape \(0, 3\)"),
        (ROWS[:, :0], ROWS, 1, ValueError, r"queries: expected at least one row and one column, got shape \(4, 0\)"),
        (ROWS, ROWS, 0, ValueError, "k: expected an integer from 1 to 4, the number of passages, got 0"),
        (ROWS, ROWS, 5, ValueError, "k: expected a number from 1 to 4, the number of passages, got 5"),
        (ROWS, ROWS, -1, ValueError, "k: expected an integer from 1 to 4"),
        (ROWS, ROWS, 2.0, TypeError, "k: expected an integer from 1 to 4, the number of passages, got 2.0"),
        (ROWS, ROWS, True, TypeError, "k: expected an integer from 1 to 4"),
    ],
)
def test_bad_arguments(queries, passages, k, error, message):
    with pytest.raises(error, match=message):
        relkt.search(queries, passages, k)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["queries", "passages"])
def test_values_that_are_not_finite_are_located(name, value):
    rows = {"queries": ROWS.copy(), "passages": ROWS.copy()}
    rows[name][2, 1] = value
    with pytest.raises(ValueError, match=rf"{name}: expected finite values, got .* at row 2, column 1"):
        relkt.search(**rows, k=1)
    rows[name][2] = 0.0
    with pytest.raises(ValueError, match=f"{name}: row 2 is all zeros"):
        relkt.search(**rows, k=1)


def test_bad_threads_and_kernels(monkeypatch):
    with pytest.raises(ValueError, match="threads: expected an integer of at least 1, or None for all, got 0"):
        relkt.search(ROWS, ROWS, 1, threads=0)
    for threads in (1025, 2**62):
        with pytest.raises(ValueError, match=f"threads: expected a number from 1 to 1024, got {threads}"):
            relkt.search(ROWS, ROWS, 1, threads=threads)
    with pytest.raises(TypeError, match="threads: expected an integer of at least 1, or None for all, got '2'"):
        relkt.search(ROWS, ROWS, 1, threads="2")
    monkeypatch.setenv("RELKT_KERNEL", "sse9")
    with pytest.raises(ValueError, match=r'RELKT_KERNEL: expected one of avx512, avxvnni, .*, got "sse9"'):
        relkt.search(ROWS, ROWS, 1)


def test_a_kernel_that_cannot_run_here_is_refused(monkeypatch):
    missing = [name for name in KERNELS if name not in available_kernels()]
    assert missing, "no processor has both AVX and NEON"
    monkeypatch.setenv("RELKT_KERNEL", missing[0])
    with pytest.raises(ValueError, match=f'the kernel "{missing[0]}" cannot run on this processor'):
        relkt.search(ROWS, ROWS, 1)


def _search_in_child(queue, index, queries):
    queue.put(index.search(queries, 5, threads=2).indices)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_search_after_fork():
    index, queries = relkt.Index(normal(0, 20_000, 64)), normal(1, 40, 64)
    expected = index.search(queries, 5, threads=2).indices  # starts the parent's threads
    context = mp.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_search_in_child, args=(queue, index, queries))
    child.start()
    assert np.array_equal(queue.get(timeout=60), expected)
    child.join()
    assert child.exitcode == 0


def test_searches_from_many_threads():
    index, queries = relkt.Index(normal(0, 20_000, 64)), normal(1, 40, 64)
    expected = index.search(queries).indices
    found = [None] * 8

    def work(i):
        found[i] = index.search(queries, threads=1 + i % 2).indices

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(indices, expected) for indices in found)


def test_the_gil_is_released():
    index, queries = relkt.Index(normal(0, 100_000, 128)), normal(1, 2000, 128)
    ticks, done = [], threading.Event()

    def tick():
        while not done.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0.001)

    thread = threading.Thread(target=tick)
    thread.start()
    start = time.perf_counter()
    index.search(queries, threads=1)
    end = time.perf_counter()
    done.set()
    thread.join()
    inside = [t for t in ticks if start < t < end]
    assert len(inside) >= 5, f"another thread ran {len(inside)} times during a search of {end - start:.2f} s"


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_stops_a_search():
    script = textwrap.dedent("""
        import signal, sys, time, numpy as np, relkt
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell ignores it
        rng = np.random.default_rng(0)
        index = relkt.Index(rng.standard_normal((100_000, 256), dtype=np.float32))
        queries = rng.standard_normal((100_000, 256), dtype=np.float32)
        print("searching", flush=True)
        try:
            index.search(queries, threads=1)  # minutes
        except KeyboardInterrupt:
            print("interrupted", flush=True)
            sys.exit(7)
    """)
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "searching\n"
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=10) == 7
    assert process.stdout.read() == "interrupted\n"
