"""The SQuAD v1.1 JSON format, which XQuAD, MLQA and XOR-TyDi QA's gold paragraphs share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relkt.data.parsing import json_object, list_field, read_json, shorten, string_field
from relkt.data.types import DataError, Passage


@dataclass(frozen=True, slots=True)
class Question:
    """A question of a paragraph; ``language`` is None if the file does not name it."""

    id: str
    text: str
    language: str | None = None


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A paragraph of an article, with its questions."""

    title: str
    context: str
    questions: tuple[Question, ...]


def read_paragraphs(path: Path) -> Iterator[Paragraph]:
    """Reads the paragraphs of a SQuAD v1.1 file, in order.

    The file is ``{"data": [{"title", "paragraphs": [{"context", "qas": [{"id", "question", "lang"?}]}]}]}``; other
    keys, including the answers, are ignored.

    Raises:
        DataError: If the file is missing, is not JSON or lacks a field; the message names the place in the file.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected a SQuAD object with 'data', got {shorten(content)}")
    for a, article in enumerate(list_field(content, "data", str(path))):
        at_article = f"{path}, data[{a}]"
        title = string_field(json_object(article, at_article), "title", at_article).strip()
        for p, paragraph in enumerate(list_field(article, "paragraphs", at_article)):
            at_paragraph = f"{at_article}.paragraphs[{p}]"
            context = string_field(json_object(paragraph, at_paragraph), "context", at_paragraph)
            questions = []
            for q, qa in enumerate(list_field(paragraph, "qas", at_paragraph)):
                at_question = f"{at_paragraph}.qas[{q}]"
                questions.append(
                    Question(
                        id=string_field(json_object(qa, at_question), "id", at_question),
                        text=string_field(qa, "question", at_question),
                        language=string_field(qa, "lang", at_question).strip() if "lang" in qa else None,
                    )
                )
            yield Paragraph(title=title, context=context, questions=tuple(questions))


def read_language(path: Path, language: str, passage_language: str) -> list[Paragraph]:
    """Reads the paragraphs of a data set's file for one language.

    Args:
        path: The file.
        language: Language of its questions.
        passage_language: Language of the candidates; the file in this language is always needed.

    Raises:
        DataError: As :func:`read_paragraphs`; if the file is missing, the message says what to do.
    """
    if path.is_file():
        return list(read_paragraphs(path))
    if language == passage_language:
        raise DataError(f"{path}: file not found; it holds the passages and is always needed")
    raise DataError(
        f"{path}: file not found; it holds the questions in {language!r}. To load the other languages only, list them "
        "in languages (--languages)"
    )


def paragraphs_from_rows(rows: Iterable[Mapping[str, Any]], titles: Mapping[str, str] | None = None) -> list[Paragraph]:
    """Groups rows of the Hub (``id``, ``title``, ``context``, ``question``) into paragraphs, in order of appearance.

    Args:
        rows: One row per question.
        titles: Question id -> article title, for rows without titles.

    Raises:
        DataError: If ``titles`` lacks a question.
    """
    grouped: dict[tuple[str, str], list[Question]] = {}
    for row in rows:
        question_id = row["id"]
        if titles is not None and question_id not in titles:
            raise DataError(f"question {question_id!r}: expected a title for its article, found none")
        title = row["title"] if titles is None else titles[question_id]
        grouped.setdefault((title, row["context"]), []).append(Question(id=question_id, text=row["question"]))
    return [Paragraph(title=t, context=c, questions=tuple(questions)) for (t, c), questions in grouped.items()]


class PassageTable:
    """Collects paragraphs as passages: one passage for each distinct text of an article.

    The document of a passage is the title of its article. Underscores replace the title's spaces, as in Wikipedia's
    addresses. Without white space, the title also fits TREC files. The id of a passage is ``DOCUMENT/NUMBER``, in order
    of appearance.
    """

    def __init__(self, language: str) -> None:
        self.language = language
        self._passages: dict[tuple[str, str], Passage] = {}
        self._counts: dict[str, int] = {}

    def add(self, title: str, text: str) -> str:
        """Adds a passage if it is new, and returns the id of the passage with this title and text."""
        document, _ = key = self._key(title, text)
        if key not in self._passages:
            number = self._counts.get(document, 0)
            self._counts[document] = number + 1
            self._passages[key] = Passage(
                id=f"{document}/{number}", text=text, document=document, language=self.language, title=title.strip()
            )
        return self._passages[key].id

    def find(self, title: str, text: str) -> str | None:
        """Returns the id of the passage with this title and text, or None."""
        passage = self._passages.get(self._key(title, text))
        return None if passage is None else passage.id

    @staticmethod
    def _key(title: str, text: str) -> tuple[str, str]:
        return re.sub(r"\s+", "_", title.strip()), " ".join(text.split())

    @property
    def passages(self) -> tuple[Passage, ...]:
        """The passages, in the order in which they were added."""
        return tuple(self._passages.values())
