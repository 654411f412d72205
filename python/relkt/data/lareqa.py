"""LAReQA's XQuAD-R: 1,190 questions in 11 languages, and one pool of candidate sentences in the same languages."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relkt.data.parsing import json_object, list_field, read_json, shorten, string_field
from relkt.data.raw import RawData
from relkt.data.types import DataError, Passage, Query, Split

LANGUAGES = ("en", "ar", "de", "el", "es", "hi", "ru", "th", "tr", "vi", "zh")

_FOLDER = "xquad-r"
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class _Question:
    id: str
    text: str
    relevant: tuple[str, ...]  # ids of the sentences in which its answers start


def read_lareqa(folder: Path) -> RawData:
    """Reads XQuAD-R.

    The candidates are the sentences of all paragraphs in all 11 languages, as one pool. They are sorted by language, in
    the order of ``LANGUAGES``; within a language, they keep the order of its file. Equal sentences of
    different paragraphs are different candidates. The sentence in which a question's answer starts is relevant for the
    question and all its translations, so every question has 11 positives. The id of a passage is
    ``LANGUAGE/ARTICLE/PARAGRAPH/SENTENCE`` (numbers from 0), and its document is ``LANGUAGE/ARTICLE``. The id of a
    query is ``ID-LANGUAGE``.

    XQuAD-R is for evaluation only: every question is a test question, unless another split is chosen. Its questions are
    XQuAD's, so an encoder trained on XQuAD has seen most of them. ``split_by="question"`` divides the
    questions as in XQuAD, so that no test question is a training question of XQuAD.

    Args:
        folder: Folder of ``LANGUAGE.json`` for all 11 languages, as published in the folder ``xquad-r`` of
            github.com/google-research-datasets/lareqa; or the folder that contains ``xquad-r``.

    Raises:
        DataError: If a file is missing or malformed, sentence breaks do not match their paragraph, an answer starts
            outside all sentences, or a question is missing in a language.

    Reference:
        Roy et al., "LAReQA: Language-agnostic answer retrieval from a multilingual pool", EMNLP 2020, section 3.1.
    """
    if (folder / _FOLDER).is_dir():
        folder = folder / _FOLDER
    if absent := [f"{language}.json" for language in LANGUAGES if not (folder / f"{language}.json").is_file()]:
        raise DataError(
            f"{folder}: file not found: {', '.join(absent)}; the files of all {len(LANGUAGES)} languages are needed, "
            "because their sentences are one pool"
        )
    passages: list[Passage] = []
    questions: dict[str, dict[str, _Question]] = {}
    for language in LANGUAGES:
        found = questions.setdefault(language, {})
        for question in _read(folder / f"{language}.json", language, passages):
            if question.id in found:
                raise DataError(f"{folder / f'{language}.json'}: question {question.id!r} appears twice")
            found[question.id] = question
    for language, found in questions.items():
        if missing := next((id_ for other in questions.values() for id_ in other if id_ not in found), None):
            raise DataError(
                f"{folder / f'{language}.json'}: expected every question in every language, question {missing!r} is "
                "missing"
            )
    queries = [
        Query(id=f"{question.id}-{language}", text=question.text, language=language, parallel=question.id)
        for language, found in questions.items()
        for question in found.values()
    ]
    relevant = {id_: [p for found in questions.values() for p in found[id_].relevant] for id_ in questions["en"]}
    return RawData(
        name="lareqa",
        passages=passages,
        queries=queries,
        qrels={query.id: dict.fromkeys(relevant[query.parallel], 1) for query in queries},
        parts={query.id: Split.TEST for query in queries},
        several_parts=True,
    )


def _read(path: Path, language: str, passages: list[Passage]) -> Iterator[_Question]:
    """Reads the questions of a file, and adds its sentences to the passages.

    The file is in the SQuAD v1.1 format, with ``sentences`` and ``sentence_breaks`` in each paragraph: the text of each
    sentence, and its start and end in ``context``.
    """
    content = json_object(read_json(path), f"{path}")
    paragraphs_of: Counter[str] = Counter()
    for a, article in enumerate(list_field(content, "data", f"{path}")):
        at_article = f"{path}, data[{a}]"
        title = string_field(json_object(article, at_article), "title", at_article).strip()
        document = f"{language}/{_SPACE.sub('_', title)}"
        for p, paragraph in enumerate(list_field(article, "paragraphs", at_article)):
            where = f"{at_article}.paragraphs[{p}]"
            breaks = _sentence_breaks(json_object(paragraph, where), where)
            ids = [f"{document}/{paragraphs_of[document]}/{number}" for number in range(len(breaks))]
            paragraphs_of[document] += 1
            for id_, text in zip(ids, paragraph["sentences"], strict=True):
                passages.append(Passage(id=id_, text=text, document=document, language=language, title=title))
            for q, qa in enumerate(list_field(paragraph, "qas", where)):
                at_question = f"{where}.qas[{q}]"
                yield _Question(
                    id=string_field(json_object(qa, at_question), "id", at_question),
                    text=string_field(qa, "question", at_question),
                    relevant=tuple(ids[number] for number in _answer_sentences(qa, breaks, at_question)),
                )


def _sentence_breaks(paragraph: dict[str, Any], where: str) -> list[tuple[int, int]]:
    """Checks and returns start and end (exclusive) of each sentence of a paragraph."""
    length = len(string_field(paragraph, "context", where))
    sentences = list_field(paragraph, "sentences", where)
    breaks = list_field(paragraph, "sentence_breaks", where)
    if len(breaks) != len(sentences):
        raise DataError(
            f"{where}: expected a pair in 'sentence_breaks' for each of the {len(sentences)} sentences, got "
            f"{len(breaks)}"
        )
    last_end = 0
    for number, (text, pair) in enumerate(zip(sentences, breaks, strict=True)):
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"{where}.sentences[{number}]: expected a non-blank text, got {shorten(text)}")
        is_pair = isinstance(pair, list) and len(pair) == 2 and all(type(value) is int for value in pair)
        if not is_pair or not last_end <= pair[0] < pair[1] <= length:
            raise DataError(
                f"{where}.sentence_breaks[{number}]: expected [start, end] with {last_end} <= start < end <= {length} "
                f"(after the previous sentence, inside the context), got {shorten(pair)}"
            )
        last_end = pair[1]
    return [(start, end) for start, end in breaks]


def _answer_sentences(qa: dict[str, Any], breaks: list[tuple[int, int]], where: str) -> list[int]:
    """Numbers of the sentences in which the answers of a question start."""
    answers = list_field(qa, "answers", where)
    if not answers:
        raise DataError(f"{where}: expected at least one answer in 'answers', got none")
    found: list[int] = []
    for number, answer in enumerate(answers):
        at_answer = f"{where}.answers[{number}]"
        start = json_object(answer, at_answer).get("answer_start")
        if type(start) is not int:
            raise DataError(f"{at_answer}: expected an integer in 'answer_start', got {shorten(start)}")
        sentence = bisect_right(breaks, start, key=lambda pair: pair[0]) - 1
        if sentence < 0 or start >= breaks[sentence][1]:
            raise DataError(f"{at_answer}: expected 'answer_start' inside one of the sentences, got {start}")
        found.append(sentence)
    return found
