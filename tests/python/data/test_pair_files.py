"""Files of pairs: columns that only some records have."""

from __future__ import annotations

import json

import pytest

from relkt.data.pair_files import PairColumns, read_pair_files
from relkt.data.types import DataError


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.mark.parametrize("corpus", [False, True])
def test_documents_may_be_in_some_records_only(tmp_path, corpus):
    some = [
        {"query": "q", "answer": "x"},
        {"query": "r", "answer": "y", "document": "d"},
        {"query": "s", "answer": "z", "document": None},
        {"query": "t", "answer": "w", "document": "d"},
    ]
    found = []
    for number, rows in enumerate((some, some[::-1])):
        path = tmp_path / f"{number}.jsonl"
        write_jsonl(path, rows)
        if corpus:
            write_jsonl(tmp_path / "p.jsonl", [{"query": row["query"], "answer": row["answer"]} for row in rows])
        read = read_pair_files(tmp_path / "p.jsonl" if corpus else path, path if corpus else None)
        found.append(dict(zip(read.passages, read.documents, strict=True)))
    assert found[0] == found[1] == {"x": (), "y": ("d",), "z": (), "w": ("d",)}


@pytest.mark.parametrize("first", [0, 1])
def test_columns_of_some_records_only_are_never_dropped(tmp_path, first):
    path, other = tmp_path / "p.jsonl", tmp_path / "c.jsonl"
    turn = slice(None, None, -1 if first else 1)
    write_jsonl(path, [{"query": "a", "answer": "b", "query_id": 1}, {"query": "c", "answer": "d"}][turn])
    with pytest.raises(DataError, match=f"line {2 - first}: expected a text or an integer in 'query_id', got None"):
        read_pair_files(path)
    write_jsonl(path, [{"query": "a", "answer": ["b"], "passage_id": [1]}, {"query": "c", "answer": ["d"]}][turn])
    with pytest.raises(DataError, match=f"line {2 - first}: expected 1 ids in 'passage_id'"):
        read_pair_files(path)
    write_jsonl(path, [{"query": "a", "answer": "b", "document": "d"}, {"query": "c", "answer": "d",
                "document_id": "e"}][turn])  # fmt: skip
    with pytest.raises(DataError, match=rf"line {2 - first}: expected the document in 'document', as in other "
                       r"records, got it in 'document_id'"):  # fmt: skip
        read_pair_files(path)
    read = read_pair_files(path, columns=PairColumns(document="document_id"))
    assert sorted(read.documents) == [(), ("e",)]
    write_jsonl(path, [{"query": "a", "answer": "b", "document": "d"}])
    write_jsonl(other, [{"text": "a", "_id": 1}, {"text": "b"}][turn])
    with pytest.raises(DataError, match=f"line {2 - first}: expected a text or an integer in '_id', got None"):
        read_pair_files(path, other)
    write_jsonl(path, [{"query": "a", "answer": "b"}, {"answer": "d"}][turn])
    with pytest.raises(DataError, match=f"line {2 - first}: expected the field 'query', got only 'answer'"):
        read_pair_files(path)
