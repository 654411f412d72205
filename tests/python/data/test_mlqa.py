"""MLQA, read from small files in the published format."""

from __future__ import annotations

import json
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from relkt.data import DataError, Split, load_data

NUMBERS = {"dev": range(4), "test": range(4, 14)}


def write(folder: Path, part: str, language: str, numbers: list[int]) -> None:
    # Titles contain spaces, and both parts may have paragraphs of the same article.
    articles: list[dict[str, Any]] = [
        {
            "title": f"Area {i % 3}",
            "paragraphs": [
                {
                    "context": f"English context {i}",
                    "qas": [{"id": f"q{i}", "question": f"{language} question {i}", "answers": []}],
                }
            ],
        }
        for i in numbers
    ]
    path = folder / part / f"{part}-context-en-question-{language}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"version": 1.0, "data": articles}), encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for part, numbers in NUMBERS.items():
        write(tmp_path / "MLQA_V1", part, "en", list(numbers))
        write(tmp_path / "MLQA_V1", part, "de", [i for i in numbers if i % 2])
        write(tmp_path / "MLQA_V1", part, "vi", [i for i in numbers if i % 3])
    return tmp_path


def test_all_english_paragraphs_are_candidates_for_every_language(folder: Path) -> None:
    data = load_data("mlqa", path=folder, languages=["de"])
    assert len(data.passages) == 14
    assert data.languages == ("de",)
    # Paragraphs are numbered within their article, across both parts.
    assert data.qrels["q7-de"] == {"Area_1/2": 1}
    passage = next(p for p in data.passages if p.id == "Area_1/2")
    assert (passage.text, passage.document, passage.title) == ("English context 7", "Area_1", "Area 1")


def test_the_folder_of_the_zip_file_or_its_parent(folder: Path) -> None:
    assert load_data("mlqa", path=folder / "MLQA_V1", languages=["de"]) == load_data(
        "mlqa", path=folder, languages=["de"]
    )


def test_pooled_and_split_by_question(folder: Path) -> None:
    data = load_data("mlqa", path=folder, languages=["en", "de", "vi"])
    # 14 questions: the parts end at 8.4 and 11.2, rounded.
    assert Counter(q.split for q in data.queries if q.language == "en") == {
        Split.TRAIN: 8,
        Split.DEV: 3,
        Split.TEST: 3,
    }
    split_of = {q.parallel: q.split for q in data.queries}
    assert all(split_of[q.parallel] is q.split for q in data.queries)
    only_german = load_data("mlqa", path=folder, languages=["de"])
    assert all(split_of[q.parallel] is q.split for q in only_german.queries)


def test_the_official_parts(folder: Path) -> None:
    data = load_data("mlqa", path=folder, languages=["en", "de"], split_by="official")
    for query in data.queries:
        assert query.split is (Split.DEV if int(query.parallel[1:]) < 4 else Split.TEST)


def test_the_paper_tests_on_the_official_dev_part(folder: Path) -> None:
    data = load_data("mlqa", path=folder, languages=["en", "de"], split_by="paper")
    assert {q.parallel for q in data.queries if q.split is Split.TEST} == {"q0", "q1", "q2", "q3"}
    # The official test part's 10 questions, split 75/25: 7.5 rounds up.
    assert Counter(q.split for q in data.queries if q.language == "en") == {
        Split.TEST: 4,
        Split.TRAIN: 8,
        Split.DEV: 2,
    }


def test_a_missing_file_is_named(folder: Path) -> None:
    with pytest.raises(DataError, match=r"dev-context-en-question-hi\.json: file not found"):
        load_data("mlqa", path=folder, languages=["hi"])


def test_a_question_unknown_in_english(folder: Path) -> None:
    write(folder / "MLQA_V1", "test", "de", [4, 99])
    with pytest.raises(DataError, match="part 'test', language 'de': question 'q99' does not exist in that part"):
        load_data("mlqa", path=folder, languages=["de"])


def test_a_question_in_both_parts(folder: Path) -> None:
    write(folder / "MLQA_V1", "test", "en", [3, 4])
    with pytest.raises(DataError, match="part 'test': question 'q3' appears twice"):
        load_data("mlqa", path=folder, languages=["en"])


def test_questions_on_another_paragraph_are_counted(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = folder / "MLQA_V1" / "dev" / "dev-context-en-question-de.json"
    path.write_text(path.read_text().replace("English context 3", "Another context"))
    with caplog.at_level(logging.WARNING, logger="relkt"):
        data = load_data("mlqa", path=folder, languages=["de"])
    assert "MLQA: 1 questions are on another paragraph" in caplog.text
    # The other paragraph is not a candidate: candidates do not depend on the chosen languages.
    assert data.passages == load_data("mlqa", path=folder, languages=["en"]).passages
    assert len(data.passages) == 14
    assert data.qrels["q3-de"] == {"Area_0/1": 1}


def test_the_hub_reads_as_the_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")

    def load_dataset(repository: str, config: str, *, split: str) -> Any:
        assert repository == "google/xtreme"
        _, context, language = config.split(".")
        part = {"validation": "dev", "test": "test"}[split]
        name = f"{part}-context-{context}-question-{language}.json"
        articles = json.loads((folder / "MLQA_V1" / part / name).read_text())["data"]
        return datasets.Dataset.from_list(
            [
                {"id": qa["id"], "title": a["title"], "context": p["context"], "question": qa["question"]}
                for a in articles
                for p in a["paragraphs"]
                for qa in p["qas"]
            ]
        )

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert load_data("mlqa", languages=["de", "vi"]) == load_data("mlqa", path=folder, languages=["de", "vi"])
