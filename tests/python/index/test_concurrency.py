"""Pickling, processes, threads, forks and Ctrl-C."""

import multiprocessing as mp
import os
import pickle
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest

import relkt

from .cases import (
    assert_holds,
    bits,
    normal,
    small,
)

ROWS = small(1, 4)


def test_pickling_is_by_path(tmp_path, monkeypatch):
    rows = normal(0, 2000, 64)
    index = relkt.Index(rows, ids=[f"id-{i}" for i in range(2000)])
    message = "an index is pickled by the path of its file, and this one is in memory only: call save"
    with pytest.raises(TypeError, match=message):
        pickle.dumps(index)
    monkeypatch.chdir(tmp_path)
    index.save("index.relkt")
    opened = relkt.Index.open("index.relkt")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")  # The file has not moved.
    for each in (index, opened):
        pickled = pickle.dumps(each)
        assert len(pickled) < 1000
        found = pickle.loads(pickled)
        assert_holds(found, rows, index.ids.tolist())
        assert found.path.absolute() == tmp_path / "index.relkt"
    # Removing no rows leaves the index unchanged; any other change prevents pickling.
    opened.remove([])
    pickle.dumps(opened)
    opened.remove(["id-0"])
    index.add(rows[:1], ids=["new"])
    for each in (index, opened):
        with pytest.raises(TypeError, match=message):
            pickle.dumps(each)
    (tmp_path / "index.relkt").unlink()
    with pytest.raises(FileNotFoundError):
        pickle.loads(pickled)


@pytest.mark.parametrize("method", mp.get_all_start_methods())
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_pool_of_processes(tmp_path, method):
    index, queries = relkt.Index(normal(0, 3000, 32)), normal(1, 12, 32)
    expected = index.search(queries, 5)
    index.save(tmp_path / "index.relkt")
    with mp.get_context(method).Pool(2) as pool:
        # A function that every process can import; the timeout prevents an endless wait.
        tasks = [(index, queries[start : start + 3], 5) for start in range(0, 12, 3)]
        found = pool.starmap_async(relkt.Index.search, tasks).get(timeout=120)
    assert np.array_equal(np.concatenate([hits.scores for hits in found]), expected.scores)
    assert np.array_equal(np.concatenate([hits.indices for hits in found]), expected.indices)


def together(*works):
    """Runs all functions at once, and raises the first exception."""
    errors = []

    def guarded(work):
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@pytest.fixture
def impatient():
    """Makes threads take turns as often as possible."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("opened", [False, True])
def test_a_search_sees_the_old_index_or_the_new_one(tmp_path, opened):
    rows, queries = normal(0, 2000, 32), normal(1, 6, 32)
    sizes = list(range(1000, 2001, 50))
    versions = [relkt.Index(rows[:size]).search(queries, 20, threads=1) for size in sizes]
    assert len({version.indices.tobytes() for version in versions}) == len(versions), "each addition shows"
    index = relkt.Index(rows[:1000])
    if opened:
        index.save(tmp_path / "index.relkt")
        index = relkt.Index.open(tmp_path / "index.relkt")
    done, seen = threading.Event(), [[] for _ in range(3)]

    def grow():
        try:
            for start in sizes[:-1]:
                index.add(rows[start : start + 50], threads=1)
        finally:
            done.set()

    def search(found):
        while not done.is_set():
            found.append(index.search(queries, 20, threads=1))
        found.append(index.search(queries, 20, threads=1))

    together(grow, *(lambda found=found: search(found) for found in seen))
    by_indices = {version.indices.tobytes(): i for i, version in enumerate(versions)}
    for found in seen:
        order = [by_indices[hits.indices.tobytes()] for hits in found]
        assert order == sorted(order)
        assert order[-1] == len(versions) - 1
        for hits, version in zip(found, order, strict=True):
            assert np.array_equal(bits(hits.scores), bits(versions[version].scores))


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("kind", [None, int, str])
def test_additions_from_many_threads(kind):
    rows = normal(0, 8 * 60, 16)
    index = relkt.Index(normal(1, 1, 16), ids=None if kind is None else [kind(-1)])

    def add(first):
        for start in range(first, first + 60, 5):
            ids = None if kind is None else [kind(i) for i in range(start, start + 5)]
            index.add(rows[start : start + 5], ids=ids, threads=1)

    together(*(lambda first=first: add(first) for first in range(0, 480, 60)))
    assert len(index) == len(index.ids) == 481
    stored = index.embeddings()[1:]
    if kind is None:
        assert sorted(map(bytes, stored)) == sorted(map(bytes, rows))
    else:
        assert np.array_equal(stored, rows[index.ids[1:].astype(int)])


@pytest.mark.usefixtures("impatient")
def test_additions_and_removals_from_many_threads():
    rows = normal(0, 400, 16)
    index = relkt.Index(rows[:200], ids=range(200))

    def add():
        for i in range(200, 400):
            index.add(rows[i : i + 1], ids=[i], threads=1)

    def remove():
        for i in range(150):
            index.remove([i], threads=1)

    def search():
        # The filter finds the passage by its id in any row.
        expected = relkt.search(rows[160:161], rows[180:181], 1)
        for _ in range(300):
            hits = index.search(rows[160:161], 1, allow=[180], threads=1)
            assert hits.scores.tolist() == expected.scores.tolist()

    together(add, remove, search)
    assert sorted(index.ids.tolist()) == list(range(150, 400))
    assert np.array_equal(index.embeddings(), rows[index.ids])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("opened", [False, True])
def test_a_forked_process_searches_and_grows(tmp_path, opened):
    rows, queries = normal(0, 20_000, 64), normal(1, 40, 64)
    index = relkt.Index(rows)
    index.save(tmp_path / "index.relkt")
    index = relkt.Index.open(tmp_path / "index.relkt") if opened else index
    expected = index.search(queries, 5, threads=2)  # Starts the parent's threads.
    reader, writer = mp.get_context("fork").Pipe(duplex=False)
    child = mp.get_context("fork").Process(target=_search_and_grow, args=(writer, index, queries))
    child.start()
    assert reader.poll(60), "the child hangs"
    before, after = reader.recv()
    child.join()
    assert np.array_equal(before, expected.indices)
    assert np.array_equal(after[:, 0], np.arange(20_000, 20_040))
    assert len(index) == 20_000
    assert np.array_equal(index.search(queries, 5, threads=2).indices, expected.indices)


def _search_and_grow(writer, index, queries):
    before = index.search(queries, 5, threads=2).indices
    index.add(queries, threads=2)
    writer.send((before, index.search(queries, 5, threads=2).indices))


def test_ctrl_c_leaves_rows_and_ids_together():
    """Signals at many moments of additions and removals, including moments when the work has just finished."""
    script = textwrap.dedent("""
        import os, signal, threading, time, numpy as np, relkt
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell ignores it
        rows = np.random.default_rng(0).standard_normal((4000, 64), dtype=np.float32)
        interrupted = 0
        for attempt in range(30):
            index = relkt.Index(rows, ids=range(4000))
            delay = attempt * 0.0004
            try:
                threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT)).start()
                index.add(rows, ids=range(4000, 8000))
                index.remove(range(0, 8000, 3))
                time.sleep(0.2)
            except KeyboardInterrupt:
                interrupted += 1
            assert len(index.ids) == len(index), (len(index.ids), len(index))
            hit = index.search(rows[:1], 1).indices[0, 0]
            assert np.array_equal(rows[index.ids[hit] % 4000], index.embeddings([hit])[0])
        assert interrupted == 30, interrupted
    """)
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


def test_a_short_search_does_not_wait_for_a_long_one():
    rng = np.random.default_rng(0)
    big = relkt.Index(rng.standard_normal((100_000, 64), dtype=np.float32))
    small = relkt.Index(rng.standard_normal((2000, 64), dtype=np.float32))
    queries = rng.standard_normal((4000, 64), dtype=np.float32)
    done = threading.Event()

    def search_long() -> None:
        big.search(queries, threads=2)
        done.set()

    thread = threading.Thread(target=search_long)
    thread.start()
    # Each search has enough work for two threads; all five end before the long search.
    for _ in range(5):
        small.search(queries[:64], threads=2)
    assert not done.is_set()
    thread.join()
