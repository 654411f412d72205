"""Addition and removal of passages, against plain NumPy."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import relkt

from .cases import FLOATS, assert_holds, assert_same, bits, brute_force, normal, small


class Growth(RuleBasedStateMachine):
    """Any sequence of changes and refused changes, compared with arrays that change in the same way."""

    @initialize(kind=st.sampled_from([None, int, str]), dtype=st.sampled_from(FLOATS), rows=st.integers(1, 40))
    def start(self, kind, dtype, rows):
        self.kind, self.dtype, self.made = kind, dtype, 0
        self.rows, self.ids = self.fresh(rows)
        self.index = relkt.Index(self.rows, ids=self.ids, threads=1)
        self.folder = tempfile.TemporaryDirectory()

    def fresh(self, count):
        """New rows and ids."""
        first, self.made = self.made, self.made + count
        ids = None if self.kind is None else [self.kind(7 * i - 20) for i in range(first, first + count)]
        return small(first, count, dtype=self.dtype), ids

    def names(self, rows):
        """The ids of these rows."""
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


ROWS = small(1, 4)


NAMES = ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("start", "more", "ids", "error", "message"),
    [
        (None, ROWS, [1, 2, 3, 4], TypeError, "ids: expected no ids, since the index does not have ids"),
        (NAMES, ROWS, None, TypeError, "ids: expected ids, since the index has them"),
        (NAMES, ROWS, [1, 2, 3, 4], TypeError, "ids: expected strings, like the ids of the index"),
        ([1, 2, 3, 4], ROWS, NAMES, TypeError, "ids: expected integers, like the ids of the index"),
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
    index.add(ROWS[:1], ids=["a"])  # The id is free again.
    assert_holds(index, ROWS[[1, 3, 0]], ["b", "d", "a"])
    by_row = relkt.Index(ROWS)
    by_row.remove(np.array([0]))
    by_row.remove([0])  # Later rows have moved up.
    assert_holds(by_row, ROWS[2:], None)


@pytest.mark.parametrize("dtype", FLOATS)
def test_embeddings(dtype):
    rows = normal(0, 50, 7).astype(dtype)
    index = relkt.Index(rows)
    for wanted in ([3, 0, 3, 49], np.arange(50)[::-1], range(5, 9), []):
        found = index.embeddings(wanted)
        assert found.dtype == dtype
        assert np.array_equal(bits(found), bits(rows[np.asarray(wanted, dtype=int)]))
    index.embeddings()[:] = 0  # Changes a copy only.
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


def test_repr(tmp_path):
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
