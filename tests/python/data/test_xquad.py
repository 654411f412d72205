"""XQuAD, read from small files in the published format, a stand-in for the Hub, and the real files if available."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from relkt.data import DataError, Split, load_data


def article(title: str, language: str, ids: list[list[str]]) -> dict[str, Any]:
    paragraphs = [
        {
            "context": f"{title} context {p} in {language}",
            "qas": [{"id": i, "question": f"{i} in {language}?", "answers": []} for i in questions],
        }
        for p, questions in enumerate(ids)
    ]
    return {"title": title, "paragraphs": paragraphs}


def content(language: str) -> dict[str, Any]:
    articles = [
        article("Super_Bowl_50", language, [["s0", "s1"], ["s2", "s3"]]),
        article("Oxygen", language, [["o0", "o1", "o2", "o3"]]),
        article("Prime_number", language, [["p0", "p1"]]),
    ]
    return {"version": "1.1", "data": articles}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for language in ("en", "de", "th"):
        (tmp_path / f"xquad.{language}.json").write_text(json.dumps(content(language)), encoding="utf-8")
    return tmp_path


def test_questions_in_many_languages_search_english_paragraphs(folder: Path) -> None:
    data = load_data("xquad", path=folder, languages=["th", "de"])
    assert data.languages == ("de", "th")
    assert [p.id for p in data.passages] == ["Super_Bowl_50/0", "Super_Bowl_50/1", "Oxygen/0", "Prime_number/0"]
    assert data.passages[1].text == "Super_Bowl_50 context 1 in en"
    assert data.passages[1].document == data.passages[1].title == "Super_Bowl_50"
    query = next(q for q in data.queries if q.id == "s2-th")
    assert (query.text, query.language, query.parallel) == ("s2 in th?", "th", "s2")
    assert data.qrels["s2-th"] == {"Super_Bowl_50/1": 1}
    assert list(data.translations) == ["de", "th"]
    assert list(data.translations["de"]) == [p.id for p in data.passages]
    assert data.translations["th"]["Super_Bowl_50/1"] == "Super_Bowl_50 context 1 in th"


def test_passage_language(folder: Path) -> None:
    data = load_data("xquad", path=folder, languages=["en"], passage_language="de")
    assert data.passages[0].text == "Super_Bowl_50 context 0 in de"
    assert data.passages[0].language == "de"
    assert data.translations["en"]["Oxygen/0"] == "Oxygen context 0 in en"
    assert data.qrels["o3-en"] == {"Oxygen/0": 1}


@pytest.mark.parametrize("split_by", ["question", "document", "auto", "paper"])
def test_a_query_keeps_its_split_for_any_languages(folder: Path, split_by: str) -> None:
    fractions = (0.3, 0.4, 0.3)
    all_three = load_data(
        "xquad", path=folder, languages=["en", "de", "th"], split_by=split_by, split_fractions=fractions
    )
    only_thai = load_data("xquad", path=folder, languages=["th"], split_by=split_by, split_fractions=fractions)
    of_query = {q.id: q.split for q in all_three.queries}
    assert all(of_query[q.id] is q.split for q in only_thai.queries)
    assert len({*of_query.values()}) == 3


def test_a_missing_language_names_its_file(folder: Path) -> None:
    with pytest.raises(DataError, match=r"xquad\.ar\.json: file not found; .* in languages \(--languages\)"):
        load_data("xquad", path=folder)
    # The passages are needed for every choice of languages.
    (folder / "xquad.en.json").unlink()
    with pytest.raises(DataError, match=r"xquad\.en\.json: file not found; it holds the passages"):
        load_data("xquad", path=folder, languages=["de"])


def test_no_official_split(folder: Path) -> None:
    with pytest.raises(ValueError, match="has no official split"):
        load_data("xquad", path=folder, languages=["en"], split_by="official")


def test_a_question_unknown_in_the_passages_language(folder: Path) -> None:
    changed = content("de")
    changed["data"][0]["paragraphs"][0]["qas"][0]["id"] = "new"
    (folder / "xquad.de.json").write_text(json.dumps(changed))
    with pytest.raises(DataError, match="'de': question 'new' does not exist in the passages' language 'en'"):
        load_data("xquad", path=folder, languages=["de"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"data": [', r"xquad\.en\.json, line 1, column 11: expected JSON"),
        ("[]", r"xquad\.en\.json: expected a SQuAD object with 'data', got \[\]"),
        ('{"data": [{"paragraphs": []}]}', r"data\[0\]: expected the field 'title'"),
        ('{"data": [{"title": "t"}]}', r"data\[0\]: expected a list in 'paragraphs', got None"),
        ('{"data": [{"title": "t", "paragraphs": [{"qas": []}]}]}', r"data\[0\].paragraphs\[0\]: .*'context'"),
        (
            '{"data": [{"title": "t", "paragraphs": [{"context": "c", "qas": [{"id": 7, "question": "q"}]}]}]}',
            r"paragraphs\[0\].qas\[0\]: expected a string in 'id', got 7",
        ),
    ],
)
def test_malformed_files_name_the_place(folder: Path, text: str, message: str) -> None:
    (folder / "xquad.en.json").write_text(text)
    with pytest.raises(DataError, match=message):
        load_data("xquad", path=folder, languages=["de"])


def test_a_file_in_another_encoding(folder: Path) -> None:
    (folder / "xquad.en.json").write_bytes('\n{"ü": 1}'.encode("latin-1"))
    with pytest.raises(DataError, match=r"xquad\.en\.json, line 2: expected UTF-8 text, .* at byte 2 of"):
        load_data("xquad", path=folder, languages=["de"])


def rows(language: str, *, with_title: bool) -> Iterator[dict[str, Any]]:
    for a in content(language)["data"]:
        for paragraph in a["paragraphs"]:
            for qa in paragraph["qas"]:
                row = {"id": qa["id"], "context": paragraph["context"], "question": qa["question"]}
                yield row | {"title": a["title"]} if with_title else row


def test_the_hub_reads_as_the_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")

    def load_dataset(repository: str, config: str | None, *, split: str) -> Any:
        assert split == "validation"
        if repository == "rajpurkar/squad":
            return datasets.Dataset.from_list(list(rows("en", with_title=True)))
        assert repository == "google/xquad"
        assert config is not None
        return datasets.Dataset.from_list(list(rows(config.removeprefix("xquad."), with_title=False)))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    options: dict[str, Any] = {"languages": ["de", "th"], "split_by": "document", "split_fractions": (0.3, 0.4, 0.3)}
    assert load_data("xquad", **options) == load_data("xquad", path=folder, **options)


def test_without_a_connection_the_error_names_path(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")

    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("Couldn't reach the Hub")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(DataError, match=r"could not be loaded from the Hugging Face Hub.*set path to the folder"):
        load_data("xquad", languages=["de"])


@pytest.fixture
def official() -> Path:
    folder = os.environ.get("RELKT_XQUAD")
    if not folder:
        pytest.skip("RELKT_XQUAD does not name a folder with XQuAD's files")
    return Path(folder)


def test_the_official_files(official: Path) -> None:
    data = load_data("xquad", path=official)
    assert len(data.passages) == 240
    assert len({p.document for p in data.passages}) == 48
    assert len(data.queries) == 12 * 1190
    assert len(data.languages) == 12
    assert len(data.translations) == 11
    assert all(len(texts) == 240 for texts in data.translations.values())
    sizes = Counter(q.split for q in data.queries if q.language == "th")
    assert sizes == {Split.TRAIN: 714, Split.DEV: 238, Split.TEST: 238}


def test_the_official_files_by_document(official: Path) -> None:
    data = load_data("xquad", path=official, languages=["en"], split_by="document")
    document_of = {p.id: p.document for p in data.passages}
    documents = {s: {document_of[data.positives(q.id)[0]] for q in data.queries if q.split is s} for s in Split}
    assert [len(documents[s]) for s in Split] == [29, 9, 10]
    assert not documents[Split.TRAIN] & documents[Split.TEST]
