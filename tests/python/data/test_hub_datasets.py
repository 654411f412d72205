"""Conversion to Hugging Face datasets and back."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict, load_dataset, load_from_disk

from relkt.data import (
    DataError,
    Passage,
    Query,
    RetrievalData,
    Split,
    from_datasets,
    load_data,
    save_beir,
    to_datasets,
)


def make_data() -> RetrievalData:
    passages = (
        Passage("7", "The Moon pulls.", "sea", title="Tides"),
        Passage("p 2", "Die Sonne\tbrennt.\n", "sun", "de"),
        Passage("p3", "Bees dance.", "p3"),
    )
    queries = (
        Query("q2", "Wie reden Bienen?", "de", "bees", Split.TEST),
        Query("q1", "Why tides?", "en", "q1", Split.TRAIN),
        Query("q3", "How do bees talk?", "en", "bees", Split.TEST),
    )
    qrels = {"q1": {"p 2": 0, "7": 2}, "q2": {"p3": 1}, "q3": {"p3": 1, "7": -1, "p 2": 1}}
    translations = {"th": {"p3": "ผึ้งเต้นรำ"}, "de": {"7": "Der Mond zieht.", "p3": "Bienen tanzen."}}
    return RetrievalData("mine", passages, queries, qrels, translations)


def corpus(**columns: list[Any]) -> Dataset:
    return Dataset.from_dict({"_id": ["1", "2"], "text": ["Moon.", "Sun."]} | columns)


def queries(**columns: list[Any]) -> Dataset:
    return Dataset.from_dict({"_id": ["a", "b", "c"], "text": ["Tides?", "Light?", "Fire?"]} | columns)


def qrels(rows: list[tuple[Any, Any, Any]], **kwargs: Any) -> Dataset:
    return Dataset.from_dict(
        dict(zip(("query-id", "corpus-id", "score"), map(list, zip(*rows, strict=True)), strict=True)), **kwargs
    )


ROWS = [("a", "1", 1), ("b", "2", 1), ("c", "2", 1)]


def test_the_round_trip_is_lossless() -> None:
    data = make_data()
    parts = to_datasets(data)
    again = from_datasets(*parts.values())
    assert again == data
    assert list(again.qrels["q3"]) == ["p3", "7", "p 2"]
    assert {part: list(splits) for part, splits in parts.items()} == {
        "corpus": ["corpus"],
        "queries": ["queries"],
        "default": ["train", "test"],
        "translations": ["translations"],
    }


def test_the_round_trip_through_files_is_lossless(tmp_path: Path) -> None:
    data = make_data()
    for part, splits in to_datasets(data).items():
        splits.save_to_disk(tmp_path / part)
        for split, rows in splits.items():
            rows.to_parquet(tmp_path / f"{part}-{split}.parquet")
    parts = {part: load_from_disk(tmp_path / part) for part in to_datasets(data)}
    assert from_datasets(*parts.values()) == data
    read = [
        load_dataset(
            "parquet",
            data_files={split: str(tmp_path / f"{part}-{split}.parquet") for split in splits},
            cache_dir=str(tmp_path / "cache"),
        )
        for part, splits in parts.items()
    ]
    assert from_datasets(*read, name="mine") == data


def test_data_of_one_split_keeps_it() -> None:
    data = make_data().select(split="test")
    assert from_datasets(*to_datasets(data).values(), split_by="official") == data


def test_held_out_documents_are_held_out_again() -> None:
    data = load_data("relkt-mini", split_by="document")
    parts = to_datasets(data).values()
    assert from_datasets(*parts, split_by="official", unseen_documents=True) == data
    assert not from_datasets(*parts, split_by="official").held_out


def test_the_mini_set_and_its_files_in_the_beir_layout(tmp_path: Path) -> None:
    data = load_data("relkt-mini")
    parts = to_datasets(data)
    assert from_datasets(*parts.values()) == data
    save_beir(data, tmp_path / "mini")
    assert from_datasets(*parts.values(), name="beir") == load_data("beir", path=tmp_path / "mini")


def test_defaults_integers_floats_and_empty_values() -> None:
    data = from_datasets(
        corpus(_id=[1, 2], title=[None, "Sun"], document=[3, None], language=[None, "de"]),
        queries(language=["de", None, None], parallel=["t", None, None]),
        DatasetDict(validation=qrels([("a", 1, 1.0)]), test=qrels([("b", 2, 2.0), ("c", 2, 1.0)])),
        name="mine",
    )
    assert data.passages == (Passage("1", "Moon.", "3"), Passage("2", "Sun.", "2", "de", "Sun"))
    assert data.queries[0] == Query("a", "Tides?", "de", "t", Split.DEV)
    assert data.queries[1] == Query("b", "Light?", "en", "b", Split.TEST)
    assert data.qrels == {"a": {"1": 1}, "b": {"2": 2}, "c": {"2": 1}}


def test_a_single_split_is_divided_by_default() -> None:
    thirds = (0.34, 0.33, 0.33)
    parts = (corpus(), queries(), qrels(ROWS, split="test"))
    assert {q.split for q in from_datasets(*parts, split_fractions=thirds).queries} == set(Split)
    assert {q.split for q in from_datasets(*parts, split_by="official").queries} == {Split.TEST}
    with pytest.raises(ValueError, match=r"split_by: .* has no official split"):
        from_datasets(corpus(), queries(), qrels(ROWS), split_by="official")


def test_queries_without_a_positive_are_left_out_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="relkt"):
        data = from_datasets(
            corpus(), queries(), qrels([("a", "1", 1), ("b", "1", 0)], split="test"), split_by="official"
        )
    assert [q.id for q in data.queries] == ["a"]
    assert "qrels: 2 of 3 queries have no passage with a score above 0" in caplog.text


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((corpus(_id=["1", "1"]), queries(), qrels(ROWS)), "corpus, row 1: passage id '1' appears twice"),
        ((corpus(text=["x", " "]), queries(), qrels(ROWS)), "corpus, row 1: expected a non-blank text"),
        ((corpus(), queries(text=[1, 2, 3]), qrels(ROWS)), "queries, row 0: expected a string in 'text', got 1"),
        ((corpus(), queries().remove_columns("_id"), qrels(ROWS)), "queries, row 0: expected the field '_id'"),
        ((corpus(), queries(), qrels([("x", "1", 1)])), "split qrels, row 0: expected a query id in queries, got 'x'"),
        ((corpus(), queries(), qrels([*ROWS, ("a", "3", 1)])), "row 3: expected a passage id in corpus, got '3'"),
        ((corpus(), queries(), qrels([("a", "1", 0.5)])), "row 0: expected a whole number in 'score', got 0.5"),
        ((corpus(), queries(), qrels([("a", "1", "1")])), "row 0: expected a whole number in 'score', got '1'"),
        ((corpus(), queries(), qrels([("a", "1", 1)] * 2)), "query 'a' and passage '1' are judged twice"),
        ((corpus(), queries(), qrels([("a", "1", 0)])), "qrels: expected at least one query with a score above 0"),
        (
            (corpus(), queries(), DatasetDict(train=qrels(ROWS), extra=qrels(ROWS))),
            "qrels: expected splits named .*, or one split of any name, got train, extra",
        ),
        (
            (corpus(), queries(), DatasetDict(train=qrels(ROWS), test=qrels(ROWS))),
            "split test, row 0: query 'a' is also judged in train",
        ),
        ((DatasetDict(a=corpus(), b=corpus()), queries(), qrels(ROWS)), "corpus: expected one split, got a, b"),
        (
            (corpus(), queries(), qrels(ROWS), Dataset.from_dict({"_id": ["9"], "language": ["de"], "text": ["x"]})),
            "translations into 'de' name the passage '9'",
        ),
        (
            (corpus(), queries(), qrels(ROWS), Dataset.from_list([{"_id": 1, "language": "de", "text": "x"}] * 2)),
            "translations, row 1: passage '1' is translated into 'de' twice",
        ),
    ],
)  # fmt: skip
def test_errors_name_part_row_and_value(parts: tuple[Any, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        from_datasets(*parts, split_fractions=(0.34, 0.33, 0.33))


def test_parts_of_another_type() -> None:
    with pytest.raises(TypeError, match=r"queries: expected a datasets.Dataset or DatasetDict, got list"):
        from_datasets(corpus(), [{"_id": "a"}], qrels(ROWS))  # type: ignore[arg-type]
