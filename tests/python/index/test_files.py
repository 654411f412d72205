"""Saving, opening and building index files."""

import os
import threading
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy

import relkt

from .cases import FLOATS, GOOD, IDS, assert_same_index, bits, names, normal, sections


@pytest.mark.parametrize("ids", IDS)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("rows", "dim"), [(1, 1), (17, 3), (1000, 70)])
def test_a_saved_index_opens_unchanged(tmp_path, rows, dim, dtype, ids):
    stored = normal(0, rows, dim, dtype)
    stored[stored == 0] = 1
    stored[0, 0] = np.finfo(dtype).smallest_subnormal  # Every bit counts.
    path = tmp_path / "index.relkt"
    index = relkt.Index(stored, ids=IDS[ids](rows))
    index.save(path, texts="päth to/texts.jsonl")
    for verify in (False, True):
        opened = relkt.Index.open(path, verify=verify)
        assert_same_index(opened, index)
        assert (opened.path, opened.texts) == (path, "päth to/texts.jsonl")
    # The same index makes the same file: saved again, saved from the file, and written as one batch. (The first batch
    # determines the mean and the rotation of the codes.)
    content = path.read_bytes()
    for again in (index, relkt.Index.open(path)):
        again.save(path)
        assert path.read_bytes() == content
    for size in {1, 7, 16, rows}:
        batches = (stored[start : start + size] for start in range(0, rows, size))
        built = relkt.Index.build(tmp_path / "b", batches, rows=rows, ids=IDS[ids](rows), texts="päth to/texts.jsonl")
        assert size < rows or (tmp_path / "b").read_bytes() == content
        assert_same_index(built, index)
    assert names(tmp_path) == ["b", "index.relkt"]


@pytest.mark.parametrize("ids", IDS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_any_reader_of_safetensors_opens_it(tmp_path, dtype, ids):
    stored, path = normal(0, 123, 18, dtype), tmp_path / "index.safetensors"
    relkt.Index(stored, ids=IDS[ids](123)).save(path, texts="t.jsonl")
    tensors = safetensors.numpy.load_file(path)
    assert tensors["rows"].dtype == dtype
    assert np.array_equal(bits(tensors["rows"]), bits(stored))
    if ids == "integers":
        assert np.array_equal(tensors["ids"], IDS[ids](123))
    if ids == "strings":
        texts = tensors["id_texts"].tobytes()
        starts = [0, *tensors["id_ends"][:-1]]
        found = [texts[start:end].decode() for start, end in zip(starts, tensors["id_ends"], strict=True)]
        assert found == IDS[ids](123)
    with safetensors.safe_open(path, framework="numpy") as file:
        assert np.array_equal(file.get_slice("rows")[50:60], stored[50:60])
        metadata = file.metadata()
    assert (metadata["format"], metadata["rows"], metadata["dim"]) == ("relkt", "123", "18")
    assert metadata["user.texts"] == "t.jsonl"
    # The sections that a search streams are aligned.
    assert all(start % 64 == 0 for name, (start, _) in sections(path)[0].items() if name in ("codes", "rows"))


def test_a_changed_index_is_saved_as_it_is(tmp_path):
    path = tmp_path / "index.relkt"
    rows = normal(0, 100, 9)
    index = relkt.Index(rows[:60], ids=range(60))
    index.save(path, texts="old")
    index = relkt.Index.open(path)
    index.add(rows[60:], ids=range(60, 100))
    index.remove(range(10, 30))
    assert_same_index(relkt.Index.open(path), relkt.Index(rows[:60], ids=range(60)))
    index.save(path)
    kept = np.delete(np.arange(100), np.arange(10, 30))
    relkt.Index(rows[kept], ids=kept).save(tmp_path / "fresh", texts="old")
    assert path.read_bytes() == (tmp_path / "fresh").read_bytes()
    index.save(path, texts="new")
    assert relkt.Index.open(path).texts == "new"


def test_the_file_that_is_open_can_be_replaced(tmp_path):
    path = tmp_path / "index.relkt"
    first, second = relkt.Index(normal(0, 3000, 20)), relkt.Index(normal(1, 50, 6), ids=range(50))
    first.save(path)
    opened = relkt.Index.open(path)
    opened.save(path)  # Saves to the file that it maps.
    assert_same_index(opened, first)
    second.save(path)
    assert_same_index(opened, first)  # It still maps the old file.
    assert_same_index(relkt.Index.open(path, verify=True), second)
    path.unlink()
    if os.name == "posix":
        assert_same_index(opened, first)
    assert names(tmp_path) == []


@pytest.mark.parametrize("name", ["näme with spaces", "no-extension", ".hidden", "x" * 200])
def test_names_of_files(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    index = relkt.Index(normal(0, 5, 3))
    for path in (name, Path(name), tmp_path / name):
        index.save(path)
        assert_same_index(relkt.Index.open(path), index)
    assert names(tmp_path) == [name]


@pytest.mark.skipif(not hasattr(os, "umask"), reason="this system has no umask")
def test_permissions_of_a_new_file(tmp_path):
    before = os.umask(0o027)
    try:
        relkt.Index(normal(0, 5, 3)).save(tmp_path / "index.relkt")
    finally:
        os.umask(before)
    assert (tmp_path / "index.relkt").stat().st_mode & 0o777 == 0o640


def test_many_threads_open_search_and_save(tmp_path):
    path = tmp_path / "index.relkt"
    versions = [relkt.Index(normal(seed, 400 + seed, 16)) for seed in range(3)]
    versions[0].save(path)
    by_size = {len(version): version for version in versions}
    errors = []

    def work(version):
        try:
            for _ in range(15):
                version.save(path)
                opened = relkt.Index.open(path, verify=True)
                assert_same_index(opened, by_size[len(opened)])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(version,)) for version in versions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert names(tmp_path) == ["index.relkt"]


def breaking(error):
    yield normal(0, 30, 8)
    raise error


BAD = GOOD.copy()


BAD[35, 2] = np.nan


@pytest.mark.parametrize(
    ("batches", "error", "message"),
    [
        (lambda: [GOOD], ValueError, "expected 100 rows as announced, got 40"),
        (lambda: [GOOD, GOOD, GOOD], ValueError, "expected 100 rows as announced, got 120"),
        (lambda: [GOOD, GOOD[:, :7], GOOD], ValueError, "expected dimension 8 .*, got 7"),
        (
            lambda: [GOOD, GOOD.astype(np.float16)],
            ValueError,
            "expected dtype float32 like the first, got float16 in 1",
        ),
        (
            lambda: [GOOD.astype(np.float16), GOOD],
            ValueError,
            "expected dtype float16 like the first, got float32 in 1",
        ),
        (
            lambda: [GOOD, GOOD.astype(np.float64)],
            TypeError,
            "batches: batch 1: expected dtype float32 or float16, got",
        ),
        (
            lambda: [GOOD, GOOD[0]],
            TypeError,
            r"batches: batch 1: expected 2 dimensions \(rows, columns\), got shape \(8,\)",
        ),
        (lambda: [GOOD, GOOD.tolist()], TypeError, "batches: batch 1: expected a 2-D NumPy array .*, got list"),
        (lambda: [GOOD, BAD], ValueError, "expected finite values, got NaN at row 75, column 2"),
        (lambda: [GOOD, GOOD, GOOD * 0], ValueError, "row 80 is all zeros"),
        (list, ValueError, "batches: expected at least one"),
        (lambda: [GOOD[:0]], ValueError, "expected 100 rows as announced, got 0"),
        (lambda: [GOOD[:, :0]], ValueError, "expected at least one row and one column"),
        (lambda: breaking(RuntimeError("no more rows")), RuntimeError, "no more rows"),
        (lambda: breaking(KeyboardInterrupt()), KeyboardInterrupt, None),
    ],
)
@pytest.mark.parametrize("there", [False, True])
def test_a_failed_build_keeps_the_old_file(tmp_path, batches, error, message, there):
    path = tmp_path / "index.relkt"
    if there:
        relkt.Index(GOOD).save(path)
        before = path.read_bytes()
    with pytest.raises(error, match=message):
        relkt.Index.build(path, batches(), rows=100)
    assert names(tmp_path) == (["index.relkt"] if there else [])
    assert not there or path.read_bytes() == before


def test_arguments_of_build(tmp_path):
    path = tmp_path / "index.relkt"
    for rows, error in ((0, ValueError), (-1, ValueError), (40.0, TypeError), (True, TypeError)):
        with pytest.raises(error, match="rows: expected an integer of at least 1"):
            relkt.Index.build(path, [GOOD], rows=rows)
    with pytest.raises(ValueError, match="ids: expected 40 values, one for each passage, got 3"):
        relkt.Index.build(path, [GOOD], rows=40, ids=range(3))
    with pytest.raises(ValueError, match="threads: "):
        relkt.Index.build(path, [GOOD], rows=40, threads=0)
    assert names(tmp_path) == []
    # Batches without rows have no effect.
    index = relkt.Index.build(path, [GOOD[:0], GOOD[:3], GOOD[:0], GOOD[3:]], rows=40)
    assert_same_index(index, relkt.Index(GOOD))
    assert index.path == path
