"""Passages from files of all kinds and from memory, and invalid input."""

import csv
import dataclasses
import datetime
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from relkt.data import DataError, Passage
from relkt.retrieval import Columns, IndexedPassage, TextUnit, read_passages
from relkt.retrieval.sources import from_passages
from relkt.retrieval.store import read_store, write_store


def write(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def test_json_lines(json_lines, passages):
    store = read_store(read_passages(json_lines))
    assert len(store) == 4
    assert store.columns == ("id", "text", "title", "document", "language", "year")
    assert store[0] == IndexedPassage("tides", "The moon causes tides.", "Sea", "sea", "en", {"year": 2020})
    assert store[-1] == IndexedPassage("bread", "Bread needs flour.", None, "food", "en", {"year": None})
    assert [passage.id for passage in store] == [passage["id"] for passage in passages]
    assert store[1:3] == [store[1], store[2]]
    with pytest.raises(IndexError, match="row: expected 0 to 3, got 4"):
        store[4]


@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet"])
def test_tables_give_the_same_passages(json_lines, passages, tmp_path, kind):
    path = tmp_path / f"table.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(passages), path)
        assert list(read_store(read_passages(path))) == list(read_store(read_passages(json_lines)))
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(passages[0]), delimiter="\t" if kind == "tsv" else ",")
        writer.writeheader()
        writer.writerows(passages)
    store = read_store(read_passages(path))
    assert [p.text for p in store] == [p["text"] for p in passages]
    assert [p.fields["year"] for p in store] == ["2020", "2021", "2021", ""]  # CSV has no numbers, only text
    assert store[3].title is None


def test_beir_folder_with_metadata(tmp_path):
    write(
        tmp_path / "corpus.jsonl",
        {"_id": "a", "title": "", "text": "One.", "metadata": {"document": "d", "language": "fr", "url": "u"}},
        {"_id": "b", "title": "T", "text": "Two.", "metadata": {}},
    )
    write(tmp_path / "queries.jsonl", {"_id": "q", "text": "no passage"})
    first, second = read_store(read_passages(tmp_path))
    assert (first.id, first.title, first.document, first.language) == ("a", None, "d", "fr")
    assert first.fields == {"metadata": {"document": "d", "language": "fr", "url": "u"}}
    assert (second.title, second.document, second.language) == ("T", None, None)


def test_plain_text_by_line_and_by_paragraph(tmp_path):
    (tmp_path / "a.txt").write_text("\ufeffone\ntwo\n\n three \n", encoding="utf-8")
    (tmp_path / "b.md").write_text("four", encoding="utf-8")
    lines = list(read_store(read_passages(tmp_path)))
    assert [(p.id, p.text, p.document) for p in lines] == [
        ("a.txt:1", "one", "a.txt"),
        ("a.txt:2", "two", "a.txt"),
        ("a.txt:4", "three", "a.txt"),
        ("b.md:1", "four", "b.md"),
    ]
    paragraphs = list(read_store(read_passages([tmp_path / "a.txt"], unit=TextUnit.PARAGRAPH)))
    assert [(p.id, p.text) for p in paragraphs] == [("a.txt:1", "one two"), ("a.txt:4", "three")]


def test_columns_with_other_names(tmp_path):
    path = write(tmp_path / "p.jsonl", {"key": 7, "body": "Text.", "lang": "en", "text": "short", "id": "x"})
    columns = Columns(text="body", id="key", language="lang")
    with pytest.raises(DataError, match=r"line 1: column 'text' would be lost"):
        read_store(read_passages(path, columns=columns))
    path = write(tmp_path / "p.jsonl", {"key": 7, "body": "Text.", "lang": "en"})
    (passage,) = read_store(read_passages(path, columns=columns))
    assert passage == IndexedPassage("7", "Text.", language="en")


def test_without_ids_the_row_numbers_are_the_ids(tmp_path):
    path = write(tmp_path / "p.jsonl", {"text": "a"}, {"text": "b"})
    assert [p.id for p in read_store(read_passages(path))] == ["0", "1"]


def test_all_json_values_are_kept(tmp_path):
    values = [
        {"n": 1, "mixed": 1, "nested": [1, {"a": None}], "big": 2**70, "flag": True, "x": 0.5, "rare": None},
        {"n": 2**63 - 1, "mixed": "1", "nested": {}, "big": 1, "flag": None, "x": 1e300, "rare": "é\u2028"},
        {"n": None, "mixed": False, "nested": None, "big": None, "flag": False, "x": None},
    ]
    path = write(tmp_path / "p.jsonl", *({"text": "t", **value} for value in values))
    found = [dict(p.fields) for p in read_store(read_passages(path))]
    assert found == [values[0], values[1], {**values[2], "rare": None}]
    assert [type(f["mixed"]) for f in found] == [int, str, bool]


def test_parquet_types_and_embeddings(tmp_path):
    day = datetime.date(2020, 2, 3)
    at = datetime.datetime(2020, 2, 3, 4, 5, 6, 7)
    table = pa.table({"text": ["t"], "day": [day], "at": [at], "blob": [b"\x00\xff"], "place": [[0.5, 1.5]]})
    table = table.append_column("embedding", pa.array([[0.5] * 384]))
    pq.write_table(table, tmp_path / "p.parquet")
    (passage,) = read_store(read_passages(tmp_path / "p.parquet"))
    assert passage.fields == {"day": day, "at": at, "blob": b"\x00\xff", "place": [0.5, 1.5]}
    pq.write_table(
        pa.table([pa.array(["t"]), pa.array([1]), pa.array([2])], names=["text", "x", "x"]), tmp_path / "q.parquet"
    )
    with pytest.raises(DataError, match=r"q\.parquet: expected columns of distinct names"):
        read_store(read_passages(tmp_path / "q.parquet"))


def test_columns_can_be_dropped(tmp_path):
    path = write(tmp_path / "p.jsonl", {"text": "a", "x": 1, "y": 2})
    (passage,) = read_store(read_passages(path, columns=Columns(left_out=("x",))))
    assert passage.fields == {"y": 2}


def test_integers_in_a_float_column_become_floats(tmp_path):
    path = write(tmp_path / "p.jsonl", *({"text": "t", "x": x, "n": n} for x, n in [(1, 2**62), (1.5, 1)]))
    store = read_store(read_passages(path))
    assert [p.fields for p in store] == [{"x": 1.0, "n": 2**62}, {"x": 1.5, "n": 1}]
    assert store.mask({"x": 1}).tolist() == [True, False]
    # A double cannot represent 2**62 + 1, so each value of this column is stored as JSON.
    path = write(tmp_path / "p.jsonl", *({"text": "t", "x": x} for x in [2**62 + 1, 1.5]))
    assert [p.fields["x"] for p in read_store(read_passages(path))] == [2**62 + 1, 1.5]


def test_a_readme_next_to_tables_is_not_a_source(tmp_path):
    (tmp_path / "README.md").write_text("about it")
    write(tmp_path / "p.jsonl", {"text": "a", "document": 7})
    (passage,) = read_store(read_passages(tmp_path))
    assert (passage.text, passage.document) == ("a", "7")


def test_quoted_lines_in_tsv_and_repeated_keys_are_refused(tmp_path):
    (tmp_path / "p.tsv").write_text('id\ttext\n1\t"Hello\n2\tplain\n3\tbye"\n')
    with pytest.raises(DataError, match="expected each record on one line"):
        read_store(read_passages(tmp_path / "p.tsv"))
    (tmp_path / "p.jsonl").write_text('{"text": "first", "text": "second"}\n')
    with pytest.raises(DataError, match="line 1: expected each key once, got 'text' twice"):
        read_store(read_passages(tmp_path / "p.jsonl"))


def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path):
    path = write(tmp_path / "p.jsonl", {"text": "a"})
    source = read_passages(path)

    def records():
        yield from source.records()
        with path.open("a") as file:
            file.write('{"text": "b"}\n')

    with pytest.raises(DataError, match="changed while it was read"):
        write_store(dataclasses.replace(source, records=records), tmp_path / "p.arrow", {})
    assert not (tmp_path / "p.arrow").exists()


def test_passages_in_memory():
    passage = IndexedPassage("x", "X.", fields={"n": 1})
    data = Passage("y", "Y.", "doc", "fr", "Titre")
    x, y, z = read_store(from_passages([passage, data, {"id": "z", "text": "Z."}]))
    assert x == passage
    assert y == IndexedPassage("y", "Y.", "Titre", "doc", "fr", {"n": None})
    assert z.text == "Z."
    assert [p.id for p in read_store(from_passages(iter(["a", "b"])))] == ["0", "1"]
    with pytest.raises(TypeError, match="expected several passages, got one str"):
        from_passages("abc")
    with pytest.raises(TypeError, match="got int in row 1"):
        from_passages(["a", 5])
    with pytest.raises(ValueError, match="expected other names of fields than id, text, got 'text' in row 0"):
        from_passages([IndexedPassage("x", "X.", fields={"text": "other"})])


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([{"id": 1, "text": "a"}, {"id": "1", "text": "b"}], r"line 2: expected each id once, got '1', as in .*line 1"),
        ([{"id": "a", "text": " "}], r"line 1: expected a text in 'text', got ' '"),
        ([{"id": "a"}], r"line 1: expected a text in 'text', got only 'id'"),
        ([{"id": "a", "text": 5}], r"line 1: expected a text in 'text', got 5"),
        ([{"id": "a", "text": "t"}, {"text": "t"}], r"line 2: expected an id in 'id', got only 'text'"),
        ([{"id": True, "text": "t"}], r"expected a text or an integer in 'id', got True"),
        ([{"id": 1.5, "text": "t"}], r"expected a text or an integer in 'id', got 1.5"),
        ([{"_id": "a", "id": "b", "text": "t"}], r"column 'id' would be lost"),
        ([{"text": "t", "language": 3}], r"expected a text in 'language', got 3"),
        ([{"text": "\ud800"}], r"expected Unicode text in 'text', got the unpaired surrogate"),
        ([{"text": "t", "x": "\ud800"}], r"'x' cannot be stored"),
        ([], r"expected at least one passage, got none"),
    ],
)
def test_bad_records_are_refused(tmp_path, records, message):
    path = write(tmp_path / "p.jsonl", *records)
    with pytest.raises(DataError, match=message):
        read_store(read_passages(path))


def test_bad_paths_are_refused(tmp_path):
    with pytest.raises(DataError, match="file not found"):
        read_passages(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match=r"expected corpus\.jsonl or files of .* got none"):
        read_passages(tmp_path)
    (tmp_path / "a.docx").write_text("x")
    with pytest.raises(DataError, match=r"expected a file whose name ends in .*, got .*a\.docx"):
        read_passages(tmp_path / "a.docx")
    path = write(tmp_path / "p.jsonl", {"text": "a"})
    with pytest.raises(DataError, match="expected each file once"):
        read_passages([path, path])
    (tmp_path / "t.txt").write_text("a")
    with pytest.raises(DataError, match="expected plain text or tables, got both"):
        read_passages([tmp_path / "t.txt", path])
    with pytest.raises(DataError, match="columns: expected none for plain text"):
        read_passages(tmp_path / "t.txt", columns=Columns(text="body"))
    with pytest.raises(ValueError, match="sentence"):
        read_passages(tmp_path / "t.txt", unit="sentence")
    with pytest.raises(DataError, match="expected at least one file, got none"):
        read_passages([])
    (tmp_path / "q.csv").write_text('text\n"open')
    with pytest.raises(DataError, match=r"q\.csv, line \d: expected CSV"):
        read_store(read_passages(tmp_path / "q.csv"))
    (tmp_path / "q.parquet").write_text("no")
    with pytest.raises(DataError, match="expected a Parquet file"):
        read_store(read_passages(tmp_path / "q.parquet"))
