"""The passages' file: random access, filters, and files of other kinds."""

import numpy as np
import pyarrow as pa
import pytest

from relkt import IndexFileError
from relkt.retrieval import PassageStore, read_passages
from relkt.retrieval.sources import from_passages
from relkt.retrieval.store import BATCH_ROWS, read_store, write_store


@pytest.fixture
def store(json_lines, tmp_path):
    assert write_store(read_passages(json_lines), tmp_path / "p.arrow", {"encoder": "é"}) == 4
    return PassageStore.open(tmp_path / "p.arrow")


def test_notes_and_table(store, tmp_path):
    assert store.notes == {"version": 1, "encoder": "é"}
    assert store.path == tmp_path / "p.arrow"
    assert store.to_table().column("year").to_pylist() == [2020, 2021, 2021, None]
    assert store.texts(1, 3) == ["The sea is salt.", "Eis schwimmt auf Wasser."]
    with pa.ipc.open_file(tmp_path / "p.arrow") as reader:  # any program reads it
        assert reader.read_all().num_rows == 4


@pytest.mark.parametrize("rows", [1, BATCH_ROWS - 1, BATCH_ROWS, BATCH_ROWS + 1, 2 * BATCH_ROWS + 7])
def test_rows_around_the_edges_of_batches(tmp_path, rows):
    write_store(from_passages([f"text {row}" for row in range(rows)]), tmp_path / "p.arrow", {})
    store = PassageStore.open(tmp_path / "p.arrow")
    assert len(store) == rows
    for row in {0, rows // 2, rows - 1, BATCH_ROWS - 1, BATCH_ROWS, BATCH_ROWS + 1}:
        if row < rows:
            assert (store[row].id, store[row].text) == (str(row), f"text {row}")


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"language": "en"}, [1, 1, 0, 1]),
        ({"year": 2021}, [0, 1, 1, 0]),
        ({"year": [2020, None]}, [1, 0, 0, 1]),
        ({"language": "en", "year": 2021}, [0, 1, 0, 0]),
        ({"title": None}, [0, 0, 0, 1]),
        ({"id": {"eis", "salt"}}, [0, 1, 1, 0]),
        ({"document": []}, [0, 0, 0, 0]),
        ({"year": np.int64(2020)}, [1, 0, 0, 0]),
        ({}, [1, 1, 1, 1]),
    ],
)
def test_filters(store, where, expected):
    mask = store.mask(where)
    assert mask.dtype == np.bool_
    assert mask.tolist() == [bool(value) for value in expected]


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"lang": "en"}, "where: expected a column among id, text, title, document, language, year, got 'lang'"),
        ({"year": "2021"}, "where: expected a value of type int64 for 'year', got '2021'"),
        ({"year": True}, "where: expected a value of type int64 for 'year', got True"),
        ({"language": 1}, "where: expected a value of type string for 'language', got 1"),
        ({"language": b"en"}, "where: expected a value of type string for 'language', got b'en'"),
        ({"year": 2**70}, "where: expected values of type int64 for 'year'"),
    ],
)
def test_bad_filters_are_refused(store, where, message):
    with pytest.raises(ValueError, match=message):
        store.mask(where)


def test_nested_values_cannot_be_filtered_by():
    store = read_store(from_passages([{"text": "t", "tags": ["a"]}]))
    with pytest.raises(ValueError, match="'tags' are nested or of several types"):
        store.mask({"tags": "a"})
    with pytest.raises(ValueError, match="column: the values of 'tags'"):
        store.values("tags")


def test_values_and_parsing(store):
    assert store.values("year") == {2021: 2, 2020: 1, None: 1}
    assert list(store.values("language", 1).items()) == [("en", 3)]
    assert store.parse("year", "2021") == 2021
    assert store.parse("year", "") is None
    assert store.parse("language", "en") == "en"
    with pytest.raises(ValueError, match="where: expected a value of type int64 for 'year', got 'x'"):
        store.parse("year", "x")


def test_other_files_are_refused(store, tmp_path):
    assert len(store) == 4
    with pytest.raises(FileNotFoundError):
        PassageStore.open(tmp_path / "none.arrow")
    whole = (tmp_path / "p.arrow").read_bytes()
    for length in (0, 5, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut.arrow").write_bytes(whole[:length])
        with pytest.raises(IndexFileError, match="truncated"):
            PassageStore.open(tmp_path / "cut.arrow")
    with pa.ipc.new_file(tmp_path / "other.arrow", pa.schema([("a", pa.int64())])):
        pass
    with pytest.raises(IndexFileError, match="expected columns as relkt writes them"):
        PassageStore.open(tmp_path / "other.arrow")
    write_store(from_passages(["a"]), tmp_path / "new.arrow", {"version": 2})
    with pytest.raises(IndexFileError, match="expected version 1 or lower, got 2"):
        PassageStore.open(tmp_path / "new.arrow")
