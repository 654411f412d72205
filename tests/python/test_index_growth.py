"""An index that changes: growth, removal, ids and filters, against plain NumPy; pickling, threads and forks."""

import multiprocessing as mp
import os
import pickle
import subprocess
import sys
import tempfile
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import relkt

DIM = 4
FLOATS = [np.float32, np.float16]


def normal(seed, rows, dim):
    return np.random.default_rng(seed).standard_normal((rows, dim)).astype(np.float32)


def small(seed, rows, dim=DIM, dtype=np.float32):
    """Rows of small whole numbers: sums of products are exact, so a score has one value, and ties abound."""
    values = np.random.default_rng(seed).integers(-2, 3, (rows, dim))
    values[:, -1] = 1  # No row of zeros.
    return values.astype(dtype)


def brute_force(queries, passages, k, rows=None):
    """The definition, of ``rows`` only: higher score first, then lower row. Exact for :func:`small` rows."""
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


class Growth(RuleBasedStateMachine):
    """Any sequence of changes, each of them, and each refusal, compared with arrays that change the same way."""

    @initialize(kind=st.sampled_from([None, int, str]), dtype=st.sampled_from(FLOATS), rows=st.integers(1, 40))
    def start(self, kind, dtype, rows):
        self.kind, self.dtype, self.made = kind, dtype, 0
        self.rows, self.ids = self.fresh(rows)
        self.index = relkt.Index(self.rows, ids=self.ids, threads=1)
        self.folder = tempfile.TemporaryDirectory()

    def fresh(self, count):
        """Rows and ids that were not there before."""
        first, self.made = self.made, self.made + count
        ids = None if self.kind is None else [self.kind(7 * i - 20) for i in range(first, first + count)]
        return small(first, count, dtype=self.dtype), ids

    def names(self, rows):
        """What these rows are called by."""
        return [int(row) if self.ids is None else self.ids[row] for row in rows]

    @rule(count=st.integers(1, 40), threads=st.integers(1, 2))
    def add(self, count, threads):
        rows, ids = self.fresh(count)
        self.index.add(rows, ids=ids, threads=threads)
        self.rows = np.concatenate([self.rows, rows])
        self.ids = None if ids is None else self.ids + ids

    @precondition(lambda self: len(self.rows) > 1)
    @rule(data=st.data())
    def remove(self, data):
        some = st.lists(st.integers(0, len(self.rows) - 1), max_size=len(self.rows) - 1)
        gone = data.draw(some, label="rows that go")
        self.index.remove(self.names(gone), threads=1)
        keep = np.setdiff1d(np.arange(len(self.rows)), gone)
        self.rows = self.rows[keep]
        self.ids = None if self.ids is None else [self.ids[row] for row in keep]

    @rule(data=st.data(), k=st.integers(1, 60), queries=st.integers(1, 20))
    def search(self, data, k, queries):
        q, k = small(k, queries), min(k, len(self.rows))
        assert_same(self.index.search(q, k, threads=1), brute_force(q, self.rows, k))
        mask = np.array(
            data.draw(st.lists(st.booleans(), min_size=len(self.rows), max_size=len(self.rows))), dtype=bool
        )
        chosen = np.flatnonzero(mask)
        expected = brute_force(q, self.rows, k, chosen)
        assert_same(self.index.search(q, k, allow=mask, threads=1), expected)
        names = self.names(data.draw(st.permutations(chosen.tolist())))
        assert_same(self.index.search(q, k, allow=names, threads=1), expected)
        assert_same(self.index.search(q, k, allow=names + names[:3], threads=1), expected)

    @rule(opened=st.booleans())
    def save(self, opened):
        path = Path(self.folder.name) / "index.relkt"
        self.index.save(path)
        assert self.index.path == path
        if opened:
            self.index = relkt.Index.open(path, verify=True)

    @rule()
    def be_refused(self):
        rows, ids = self.fresh(2)
        bad = rows.copy()
        bad[1] = 0
        other = None if self.kind is not None else [1, 2]
        for passages, names, error in (
            (bad, ids, ValueError),
            (rows[:, 1:], ids, ValueError),
            (rows.astype(np.float64), ids, TypeError),
            (rows, other, TypeError),
        ):
            with pytest.raises(error):
                self.index.add(passages, ids=names)
        missing = [len(self.rows)] if ids is None else ids[:1]
        for names in (missing, self.names([0]) + missing, self.names(range(len(self.rows)))):
            with pytest.raises(ValueError, match=r"no passage with the id|expected a row from 0|at least one passage"):
                self.index.remove(names)
        with pytest.raises(ValueError, match=r"no passage with the id|expected a row from 0"):
            self.index.search(rows, 1, allow=missing)

    @invariant()
    def it_holds_what_it_should(self):
        if hasattr(self, "index"):
            assert_holds(self.index, self.rows, self.ids)

    def teardown(self):
        if hasattr(self, "folder"):
            self.folder.cleanup()


TestGrowth = Growth.TestCase
TestGrowth.settings = settings(max_examples=40, stateful_step_count=12, deadline=None)


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


@pytest.mark.parametrize(
    ("start", "more", "ids", "error", "message"),
    [
        (None, ROWS, [1, 2, 3, 4], TypeError, "ids: expected no ids, since the index has none"),
        (NAMES, ROWS, None, TypeError, "ids: expected ids, since the index has them"),
        (NAMES, ROWS, [1, 2, 3, 4], TypeError, "ids: expected strings, like those that are there"),
        ([1, 2, 3, 4], ROWS, NAMES, TypeError, "ids: expected integers, like those that are there"),
        (NAMES, ROWS, ["e", "f", "b", "g"], ValueError, "ids: expected each id once, got 'b' for the passages 1 and 6"),
        (NAMES, ROWS, ["e", "f", "e", "g"], ValueError, "ids: expected each id once, got 'e' for the passages"),
        (NAMES, ROWS, ["e", "f"], ValueError, "ids: expected 4 values, one for each passage, got 2"),
        (None, ROWS[:0], None, ValueError, "passages: expected at least one row and one column"),
        (None, ROWS[:, 2:], None, ValueError, "passages: expected dimension 4 like the passages, got 2"),
        (None, ROWS * [[1], [1], [np.inf], [1]], None, TypeError, "passages: expected dtype float32 or float16, got"),
        (None, ROWS * np.float32([[1], [1], [0], [1]]), None, ValueError, "passages: row 2 is all zeros"),
        (None, ROWS * np.float32([[1], [1], [np.nan], [1]]), None, ValueError, "got NaN at row 2, column 0"),
    ],
)
@pytest.mark.parametrize("opened", [False, True])
def test_a_refused_addition_changes_nothing(tmp_path, start, more, ids, error, message, opened):
    index = relkt.Index(ROWS, ids=start)
    path = tmp_path / "index.relkt"
    index.save(path)
    index = relkt.Index.open(path) if opened else index
    with pytest.raises(error, match=message):
        index.add(more, ids=ids)
    assert_holds(index, ROWS, start)
    assert index.path == path
    assert_same(index.search(ROWS, 4), brute_force(ROWS, ROWS, 4))


def test_float16_refuses_float32_and_float32_takes_float16():
    rows = small(1, 20)
    index = relkt.Index(rows.astype(np.float16))
    with pytest.raises(
        TypeError, match="passages: expected dtype float16, that of the index, got float32, which would"
    ):
        index.add(rows)
    assert_holds(index, rows.astype(np.float16), None)
    index.add(rows.astype(np.float16))
    assert_holds(index, np.concatenate([rows, rows]).astype(np.float16), None)
    single = relkt.Index(rows)
    single.add(rows.astype(np.float16))
    assert_holds(single, np.concatenate([rows, rows]), None)


def test_grown_is_the_same_as_made_at_once():
    rows, q = normal(0, 1000, 33), normal(1, 9, 33)
    whole = relkt.Index(rows)
    grown = relkt.Index(rows[:1])
    for start, stop in ((1, 2), (2, 15), (15, 16), (16, 17), (17, 700), (700, 1000)):
        grown.add(rows[start:stop])
    shrunk = relkt.Index(np.concatenate([normal(2, 40, 33), rows]))
    shrunk.remove(range(40))
    assert np.array_equal(bits(shrunk.embeddings()), bits(rows))
    for k in (1, 50, 1000):
        expected = whole.search(q, k)
        for index in (grown, shrunk):
            hits = index.search(q, k)
            assert np.array_equal(hits.indices, expected.indices)
            assert np.array_equal(bits(hits.scores), bits(expected.scores))
    assert grown.nbytes == shrunk.nbytes == whole.nbytes


def test_removal():
    index = relkt.Index(ROWS, ids=NAMES)
    for ids, error, message in (
        (["e"], ValueError, "ids: there is no passage with the id 'e'"),
        ([1], ValueError, "ids: there is no passage with the id 1"),
        ("a", TypeError, "ids: expected a sequence of integers or strings, got 'a'"),
        (NAMES, ValueError, "ids: expected at least one passage to be left"),
    ):
        with pytest.raises(error, match=message):
            index.remove(ids)
        assert_holds(index, ROWS, NAMES)
    index.remove(["c", "a", "c"])
    assert_holds(index, ROWS[[1, 3]], ["b", "d"])
    index.add(ROWS[:1], ids=["a"])  # Free again.
    assert_holds(index, ROWS[[1, 3, 0]], ["b", "d", "a"])
    by_row = relkt.Index(ROWS)
    by_row.remove(np.array([0]))
    by_row.remove([0])  # Those behind have moved up.
    assert_holds(by_row, ROWS[2:], None)


@pytest.mark.parametrize("dtype", FLOATS)
def test_embeddings(dtype):
    rows = normal(0, 50, 7).astype(dtype)
    index = relkt.Index(rows)
    for wanted in ([3, 0, 3, 49], np.arange(50)[::-1], range(5, 9), []):
        found = index.embeddings(wanted)
        assert found.dtype == dtype
        assert np.array_equal(bits(found), bits(rows[np.asarray(wanted, dtype=int)]))
    index.embeddings()[:] = 0  # A copy.
    assert np.array_equal(bits(index.embeddings()), bits(rows))
    for wanted, error in (
        ([50], ValueError),
        ([-1], ValueError),
        (["a"], TypeError),
        ([1.5], TypeError),
        (3, TypeError),
    ):
        with pytest.raises(error, match="rows: "):
            index.embeddings(wanted)


def test_ids_are_a_copy():
    index = relkt.Index(ROWS, ids=[1, 2, 3, 4])
    index.ids[0] = 9
    assert index.ids.tolist() == [1, 2, 3, 4]


def test_how_it_presents_itself(tmp_path):
    path = tmp_path / "index.relkt"
    index = relkt.Index(ROWS.astype(np.float16))
    assert (len(index), index.dim, index.dtype, index.path, index.texts) == (4, 4, np.float16, None, None)
    assert repr(index) == f"Index(passages=4, dim=4, dtype=float16, nbytes={index.nbytes})"
    index.save(path, texts="texts.jsonl")
    for each in (index, relkt.Index.open(str(path))):
        assert repr(each) == f"Index(passages=4, dim=4, dtype=float16, nbytes={each.nbytes}, path={str(path)!r})"
        assert (each.path, each.texts) == (path, "texts.jsonl")
    index.add(ROWS.astype(np.float16))
    assert (index.path, index.texts) == (None, "texts.jsonl")
    assert relkt.Index(ROWS).nbytes > relkt.Index(ROWS.astype(np.float16)).nbytes >= 4 * 4 * 2


# Pickling


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
    monkeypatch.chdir(tmp_path / "elsewhere")  # The file is where it was.
    for each in (index, opened):
        pickled = pickle.dumps(each)
        assert len(pickled) < 1000
        found = pickle.loads(pickled)
        assert_holds(found, rows, index.ids.tolist())
        assert found.path.absolute() == tmp_path / "index.relkt"
    # Removing nothing changes nothing; all else does.
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
        # A function that every process can import, whatever its path; and no wait without end.
        tasks = [(index, queries[start : start + 3], 5) for start in range(0, 12, 3)]
        found = pool.starmap_async(relkt.Index.search, tasks).get(timeout=120)
    assert np.array_equal(np.concatenate([hits.scores for hits in found]), expected.scores)
    assert np.array_equal(np.concatenate([hits.indices for hits in found]), expected.indices)


# Threads and forks


def together(*works):
    """Runs all at once, and raises what the first of them raised."""
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
    """Threads that take turns as often as they can."""
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
        # Whatever its row is, the passage is found by its id.
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


# Interruptions, and work side by side


def test_ctrl_c_leaves_rows_and_ids_together():
    """Signals at many moments of additions and removals, those included at which the work is just done."""
    script = textwrap.dedent("""
        import os, signal, threading, time, numpy as np, relkt
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
    # Enough work for two threads each time; all of it ends before the long search does.
    for _ in range(5):
        small.search(queries[:64], threads=2)
    assert not done.is_set()
    thread.join()


def test_an_array_of_bytes_is_no_mask():
    index = relkt.Index(np.eye(4, dtype=np.float32))
    with pytest.raises(
        TypeError, match="allow: expected a mask of dtype bool or ids, got uint8, which may mean either"
    ):
        index.search(np.eye(4, dtype=np.float32), 1, allow=np.array([1, 0, 0, 1], dtype=np.uint8))


def test_data_with_structure_is_searched_like_any_other(tmp_path):
    """Clustered rows, which get a sketch, and rows with much in common: in memory, grown, from a file, and filtered."""
    rng = np.random.default_rng(3)
    centres = rng.standard_normal((250, 128))
    clustered = centres[rng.integers(0, 250, 20_000)] + 0.3 * rng.standard_normal((20_000, 128))
    alike = 3 * centres[0] + rng.standard_normal((20_000, 128))
    for rows in (clustered.astype(np.float32), alike.astype(np.float32)):
        queries = rows[::1000] + rng.standard_normal((20, 128)).astype(np.float32) / 10
        unit = rows.astype(np.float64) / np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
        scores = (queries.astype(np.float64) @ unit.T).astype(np.float32)
        index = relkt.Index(rows[:18_000])
        index.add(rows[18_000:])
        index.save(tmp_path / "index.relkt")
        opened = relkt.Index.open(tmp_path / "index.relkt", verify=True)
        mask = np.arange(len(rows)) % 5 < 2
        for allow in (None, mask):
            allowed = np.where(mask, scores, -np.inf) if allow is not None else scores
            best = np.sort(allowed, axis=1)[:, ::-1][:, :10]
            for searched in (index, opened):
                for count in (1, 20):
                    hits = searched.search(queries[:count], 10, allow=allow)
                    norms = np.linalg.norm(queries[:count].astype(np.float64), axis=1, keepdims=True)
                    np.testing.assert_allclose(hits.scores * norms, best[:count], rtol=1e-6)
