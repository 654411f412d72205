"""Documents held out of training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from relkt.data import DataError, Passage, Query, RetrievalData, Split, load_data
from relkt.data.checksum import data_checksum


def texts_of(data: RetrievalData) -> set[str]:
    translated = {text for texts in data.translations.values() for text in texts.values()}
    return {p.text for p in data.passages} | {q.text for q in data.queries} | translated


@pytest.fixture
def data() -> RetrievalData:
    splits = {"a": Split.TRAIN, "b": Split.DEV, "c": Split.TEST}
    return RetrievalData(
        name="toy",
        passages=tuple(Passage(f"{d}{i}", f"passage {d}{i}", d) for d in "abcd" for i in range(2)),
        queries=tuple(
            Query(f"q{d}{i}-{code}", f"question {d}{i} {code}", code, f"q{d}{i}", split)
            for d, split in splits.items()
            for i in range(2)
            for code in ("en", "de")
        ),
        qrels={
            f"q{d}{i}-{code}": {f"{d}{i}": 1, "c0": int(d == "c" and i == 0)}
            for d in splits
            for i in range(2)
            for code in ("en", "de")
        },
        translations={"de": {f"{d}{i}": f"Absatz {d}{i}" for d in "abcd" for i in range(2)}},
        held_out={"b": Split.DEV, "c": Split.TEST},
    )


def test_training_sees_no_text_of_a_held_out_document(data: RetrievalData) -> None:
    seen = data.seen_by("train")
    assert {p.document for p in seen.passages} == {"a", "d"}
    assert {q.split for q in seen.queries} == {Split.TRAIN}
    assert len(seen.queries) == 4
    assert set(seen.translations["de"]) == {"a0", "a1", "d0", "d1"}
    assert seen.qrels["qa0-en"] == {"a0": 1}
    held = {f"{kind} {d}{i}{code}" for kind, code in (("passage", ""), ("Absatz", "")) for d in "bc" for i in range(2)}
    assert not held & texts_of(seen)


def test_training_sees_no_copy_of_a_held_out_passage(data: RetrievalData) -> None:
    copied = {"a1": "passage b0", "d0": "passage c1"}
    passages = tuple(replace(p, text=copied.get(p.id, p.text)) for p in data.passages)
    seen = replace(data, passages=passages).seen_by("train")
    assert [p.id for p in seen.passages] == ["a0", "d1"]
    assert [q.id for q in seen.queries] == ["qa0-en", "qa0-de"]
    assert set(seen.translations["de"]) == {"a0", "d1"}


def test_dev_evaluation_sees_no_text_of_a_test_document(data: RetrievalData) -> None:
    seen = data.seen_by(Split.DEV)
    assert {p.document for p in seen.passages} == {"a", "b", "d"}
    assert {q.split for q in seen.queries} == {Split.TRAIN, Split.DEV}
    assert data.seen_by("test") is data


def test_known_documents_are_all_seen(data: RetrievalData) -> None:
    known = replace(data, held_out={})
    assert known.seen_by("train") is known


def test_selecting_languages_keeps_the_held_out_documents(data: RetrievalData) -> None:
    german = data.select(languages=["de"])
    assert german.held_out == data.held_out
    assert len(german.seen_by("train").passages) == 4


def test_a_document_belongs_to_one_split(data: RetrievalData) -> None:
    with pytest.raises(DataError, match="the train query 'qa0-en' is answered in document 'a', which also answers"):
        replace(data, held_out={"a": Split.TEST})


def test_held_out_documents_change_the_checksum(data: RetrievalData) -> None:
    assert data_checksum(data) != data_checksum(replace(data, held_out={}))


def test_splitting_by_document_holds_documents_out() -> None:
    known, unseen = (load_data("relkt-mini", split_by=by) for by in ("question", "document"))
    assert not known.held_out
    assert set(unseen.held_out.values()) == {Split.DEV, Split.TEST}
    for query in unseen.queries:
        (passage,) = unseen.positives(query.id)
        document = next(p.document for p in unseen.passages if p.id == passage)
        assert unseen.held_out.get(document, Split.TRAIN) is query.split


def test_official_parts_are_held_out_on_request(tmp_path: Path) -> None:
    (tmp_path / "qrels").mkdir()
    (tmp_path / "corpus.jsonl").write_text('{"_id": "p1", "text": "Ice."}\n{"_id": "p2", "text": "Bread."}\n')
    (tmp_path / "queries.jsonl").write_text('{"_id": "q1", "text": "Cold?"}\n{"_id": "q2", "text": "Food?"}\n')
    header = "query-id\tcorpus-id\tscore\n"
    (tmp_path / "qrels" / "train.tsv").write_text(f"{header}q1\tp1\t1\n")
    (tmp_path / "qrels" / "test.tsv").write_text(f"{header}q2\tp2\t1\n")
    assert not load_data("beir", path=tmp_path).held_out
    assert load_data("beir", path=tmp_path, unseen_documents=True).held_out == {"p2": Split.TEST}
    (tmp_path / "qrels" / "test.tsv").write_text(f"{header}q2\tp1\t1\n")
    with pytest.raises(DataError, match="expected each document in one split"):
        load_data("beir", path=tmp_path, unseen_documents=True)
