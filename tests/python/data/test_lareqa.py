"""XQuAD-R, read from small files in the published format."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from relkt.data import DataError, Level, Split, load_data
from relkt.data.lareqa import LANGUAGES
from relkt.evaluation import evaluate_embeddings

SENTENCES = (("Oxygen burns.", "Water is wet."), ("Ice floats.",))


def content(language: str) -> dict[str, Any]:
    """A paragraph of two sentences and a paragraph of one; each sentence has a question."""
    paragraphs = []
    for number, sentences in enumerate(SENTENCES):
        texts = [f"{language}: {sentence}" for sentence in sentences]
        starts = [sum(len(text) + 1 for text in texts[:i]) for i in range(len(texts))]
        paragraphs.append(
            {
                "context": " ".join(texts),
                "sentences": texts,
                "sentence_breaks": [[start, start + len(text)] for start, text in zip(starts, texts, strict=True)],
                "qas": [
                    {
                        "id": f"q{number}{i}",
                        "question": f"{i} in {language}?",
                        "answers": [{"answer_start": start + len(language) + 2, "text": "..."}],
                    }
                    for i, start in enumerate(starts)
                ],
            }
        )
    return {"version": "1.1", "data": [{"title": "Chemistry of Ice", "paragraphs": paragraphs}]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "xquad-r").mkdir()
    for language in LANGUAGES:
        write(tmp_path, language, lambda _: None)
    return tmp_path


def write(folder: Path, language: str, change: Callable[[Any], None]) -> None:
    file = content(language)
    change(file)
    (folder / "xquad-r" / f"{language}.json").write_text(json.dumps(file), encoding="utf-8")


def test_the_sentences_of_all_languages_are_one_pool(folder: Path) -> None:
    data = load_data("lareqa", path=folder)
    assert data.languages == LANGUAGES
    assert len(data.passages) == 3 * 11
    assert [p.id for p in data.passages[:4]] == [
        "en/Chemistry_of_Ice/0/0", "en/Chemistry_of_Ice/0/1", "en/Chemistry_of_Ice/1/0", "ar/Chemistry_of_Ice/0/0",
    ]  # fmt: skip
    thai = next(p for p in data.passages if p.id == "th/Chemistry_of_Ice/0/1")
    assert (thai.text, thai.language, thai.document) == ("th: Water is wet.", "th", "th/Chemistry_of_Ice")
    assert len(data.queries) == 3 * 11
    assert {q.split for q in data.queries} == {Split.TEST}
    query = next(q for q in data.queries if q.id == "q01-de")
    assert (query.text, query.language, query.parallel) == ("1 in de?", "de", "q01")
    for language in LANGUAGES:
        assert data.qrels[f"q01-{language}"] == {f"{x}/Chemistry_of_Ice/0/1": 1 for x in LANGUAGES}


def test_choosing_languages_keeps_the_whole_pool(folder: Path) -> None:
    data = load_data("lareqa", path=folder / "xquad-r", languages=["th"])
    assert (data.languages, len(data.queries), len(data.passages)) == (("th",), 3, 33)
    assert len(data.qrels["q10-th"]) == 11


def test_split_by_question_gives_a_train_split(folder: Path) -> None:
    data = load_data("lareqa", path=folder, split_by="question", split_fractions=(0.4, 0.3, 0.3))
    assert {q.split for q in data.queries} == {*Split}


def test_mean_average_precision_by_hand(folder: Path) -> None:
    """Ten positives of question q10 are at 1 to 10 degrees, the Chinese positive at 40. The 22 other sentences are at
    20 degrees, with equal scores, so they rank before it."""
    data = load_data("lareqa", path=folder, languages=["en", "th"])
    positives = data.positives("q10-en")
    angle = {id_: 1.0 + place for place, id_ in enumerate(positives)} | {"zh/Chemistry_of_Ice/1/0": 40.0}
    angles = np.radians([angle.get(p.id, 20.0) for p in data.passages])
    candidates = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    asked = {"q10-en": 0.0, "q10-th": 60.0}
    kept = [q for q in data.queries if q.id in asked]
    data = type(data)(data.name, data.passages, tuple(kept), {q.id: data.qrels[q.id] for q in kept})
    turned = np.radians([asked[q.id] for q in data.queries])
    queries = np.stack([np.cos(turned), np.sin(turned)], axis=1).astype(np.float32)
    report = evaluate_embeddings(queries, candidates, data, full_ranking=True, num_resamples=0)
    # English query at 0 degrees: ranks 1 to 10 and 33. Thai query at 60 degrees: rank 1, 22 others, ranks 24 to 33.
    english = (10 + 11 / 33) / 11
    thai = (1 + sum((i + 2) / (24 + i) for i in range(10))) / 11
    assert report.value("mAP", "en") == pytest.approx(english, abs=1e-12)
    assert report.value("mAP", "th") == pytest.approx(thai, abs=1e-12)
    assert report.average("mAP").value == pytest.approx((english + thai) / 2, abs=1e-12)
    assert report.num_candidates == 33
    assert report.level is Level.PASSAGE
    assert math.isclose(report.value("P@1", "th"), 1)


def test_the_error_names_all_missing_files(folder: Path) -> None:
    (folder / "xquad-r" / "zh.json").unlink()
    (folder / "xquad-r" / "ar.json").unlink()
    with pytest.raises(DataError, match=r"xquad-r: file not found: ar\.json, zh\.json; the files of all 11"):
        load_data("lareqa", path=folder, languages=["en"])


@pytest.mark.parametrize(
    ("breaks", "message"),
    [
        ([[0, 17]], r"expected a pair in 'sentence_breaks' for each of the 2 sentences, got 1"),
        ([[0, 17], [18]], r"sentence_breaks\[1\]: expected \[start, end\] with 17 <= start < end <= 35 .*, got \[18\]"),
        ([[0, 17], [18, 36]], r"sentence_breaks\[1\]: .* got \[18, 36\]"),
        ([[0, 17], [16, 35]], r"sentence_breaks\[1\]: .* got \[16, 35\]"),
        ([[-1, 17], [18, 35]], r"sentence_breaks\[0\]: .* 0 <= start .* got \[-1, 17\]"),
        ([[0, 17], [18, 18]], r"sentence_breaks\[1\]: .* got \[18, 18\]"),
        ([[0, 17], ["18", 35]], r"sentence_breaks\[1\]: .* got \['18', 35\]"),
        ([[False, 17], [18, 35]], r"sentence_breaks\[0\]: .* got \[False, 17\]"),
        ({}, r"expected a list in 'sentence_breaks', got \{\}"),
    ],
)
def test_bad_sentence_breaks(folder: Path, breaks: Any, message: str) -> None:
    write(folder, "de", lambda file: file["data"][0]["paragraphs"][0].update(sentence_breaks=breaks))
    with pytest.raises(DataError, match=rf"de\.json, data\[0\]\.paragraphs\[0\].*{message}"):
        load_data("lareqa", path=folder)


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (17, "expected 'answer_start' inside one of the sentences, got 17"),  # the space between two sentences
        (35, "expected 'answer_start' inside one of the sentences, got 35"),
        (-1, "expected 'answer_start' inside one of the sentences, got -1"),
        ("3", "expected an integer in 'answer_start', got '3'"),
        (None, "expected an integer in 'answer_start', got None"),
    ],
)
def test_an_answer_outside_the_sentences(folder: Path, start: Any, message: str) -> None:
    write(
        folder, "th", lambda file: file["data"][0]["paragraphs"][0]["qas"][1].update(answers=[{"answer_start": start}])
    )
    with pytest.raises(DataError, match=rf"th\.json, data\[0\]\.paragraphs\[0\]\.qas\[1\]\.answers\[0\]: {message}"):
        load_data("lareqa", path=folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda p: p.update(sentences=["x", ""]),
            r"paragraphs\[0\]\.sentences\[1\]: expected a non-blank text",
        ),
        (lambda p: p.update(sentences=None), r"paragraphs\[0\]: expected a list in 'sentences', got None"),
        (lambda p: p["qas"][0].update(answers=[]), r"qas\[0\]: expected at least one answer in 'answers', got none"),
        (lambda p: p["qas"].pop(), r"el\.json: expected every question in every language, question 'q01' is missing"),
        (lambda p: p["qas"].append(p["qas"][0]), r"el\.json: question 'q00' appears twice"),
    ],
)
def test_other_malformed_files(folder: Path, change: Callable[[Any], None], message: str) -> None:
    write(folder, "el", lambda file: change(file["data"][0]["paragraphs"][0]))
    with pytest.raises(DataError, match=message):
        load_data("lareqa", path=folder)


def test_arguments_that_do_not_apply(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"path: .* the files of data set 'lareqa', got None$"):
        load_data("lareqa")
    with pytest.raises(ValueError, match="passage_language: data set 'lareqa' has passages in one language only"):
        load_data("lareqa", path=folder, passage_language="en")
    with pytest.raises(ValueError, match="hub: applies only to 'beir' and 'xorqa', got it for 'lareqa'"):
        load_data("lareqa", hub="me/lareqa")
