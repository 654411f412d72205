"""XOR-TyDi QA's gold paragraphs, read from small files in the published format."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from relkt.data import DataError, Split, load_data


def entry(title: str, context: str, question: str, language: str, question_id: str) -> dict[str, Any]:
    qa = {"question": question, "answers": [], "id": question_id, "lang": language, "split": "train"}
    full = f"title:{title}_parentSection:Introduction_sectionName:Career._sectionIndex:2"
    return {"title": full, "paragraphs": [{"context": context, "qas": [qa]}]}


def write(folder: Path, part: str, entries: list[dict[str, Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"gp_squad_{part}_data.json").write_text(json.dumps({"data": entries}), encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    train = [entry("Vamsy", "Vamsy wrote.", "ఎవరు?", "te", "-1"), entry("Vamsy", "Vamsy sang.", "ఎవరు?", "te", "-1")]
    # Language codes in the published file start with a space.
    train += [entry(f"Page {i}", f"Text {i}", f"ما {i}", " ar", str(i)) for i in range(7)]
    dev = [entry("Page 1", "Text 1", "だれ", "ja", "100"), entry("Helsinki", "A city.", "Mikä?", "fi", "101")]
    write(tmp_path / "tydi_xor_gp", "train", train)
    write(tmp_path / "tydi_xor_gp", "dev", dev)
    return tmp_path


def test_titles_languages_and_several_positives(folder: Path) -> None:
    data = load_data("xorqa", path=folder)
    assert data.languages == ("ar", "fi", "ja", "te")
    assert data.positives("-1") == ("Vamsy/0", "Vamsy/1")
    assert data.qrels["100"] == {"Page_1/0": 1}
    assert data.passages[0].title == "Vamsy"
    assert len(data.passages) == 2 + 7 + 1


def test_splits(folder: Path) -> None:
    official = {q.id: q.split for q in load_data("xorqa", path=folder, split_by="official").queries}
    assert official.pop("100") is official.pop("101") is Split.DEV
    assert set(official.values()) == {Split.TRAIN}
    paper = load_data("xorqa", path=folder, split_by="paper")
    assert Counter(q.split for q in paper.queries) == {Split.TRAIN: 6, Split.DEV: 2, Split.TEST: 2}
    assert {q.id for q in paper.queries if q.split is Split.TEST} == {"100", "101"}
    pooled = load_data("xorqa", path=folder)
    assert Counter(q.split for q in pooled.queries) == {Split.TRAIN: 6, Split.DEV: 2, Split.TEST: 2}
    with_documents_apart = load_data("xorqa", path=folder, split_by="document").queries
    split_of = {q.id: q.split for q in with_documents_apart}
    assert split_of["1"] is split_of["100"]


def test_english_questions_are_parallel(folder: Path) -> None:
    path = folder / "tydi_xor_gp" / "english_questions.jsonl"
    path.write_text('{"id": "-1", "question": "Who wrote it?"}\n\n{"id": "101", "question": "What is Helsinki?"}\n')
    data = load_data("xorqa", path=folder)
    english = {q.parallel: q for q in data.queries if q.language == "en"}
    assert english["-1"].text == "Who wrote it?"
    assert data.qrels["-1-en"] == data.qrels["-1"]
    assert all(english[q.id].split is q.split for q in data.queries if q.id in english)
    path.write_text('{"id": "-1", "question": "Who?"}\n{"id": "7777", "question": "What?"}\n')
    with pytest.raises(DataError, match=r"english_questions\.jsonl, line 2: .*got '7777'"):
        load_data("xorqa", path=folder)


def test_errors(folder: Path) -> None:
    inner = folder / "tydi_xor_gp"
    write(inner, "dev", [entry("T", "Text", "Someone else?", "te", "-1")])
    with pytest.raises(DataError, match="question '-1' has two texts or languages"):
        load_data("xorqa", path=folder)
    write(inner, "dev", [entry("T", "Text", "Who?", " ", "5")])
    with pytest.raises(DataError, match="question '5': expected a language in 'lang'"):
        load_data("xorqa", path=folder)
    (inner / "gp_squad_dev_data.json").unlink()
    with pytest.raises(DataError, match=r"gp_squad_dev_data\.json: file not found"):
        load_data("xorqa", path=folder)
    with pytest.raises(ValueError, match="expected the folder with the files"):
        load_data("xorqa")


def test_questions_of_train_that_recur_in_dev_are_counted(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(folder / "tydi_xor_gp", "dev", [entry("T", "Text", "ఎవరు?", "te", "-1")])
    data = load_data("xorqa", path=folder, split_by="official")
    assert "1 paragraphs of dev have a question of train" in caplog.text
    assert data.positives("-1") == ("Vamsy/0", "Vamsy/1", "T/0")
    assert {q.split for q in data.queries} == {Split.TRAIN}
