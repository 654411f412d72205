"""XQuAD: 1,190 questions on 240 paragraphs of 48 articles, in 12 languages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from relkt.data.hub_download import hub_rows
from relkt.data.raw import RawData
from relkt.data.splits import SplitBy
from relkt.data.squad import Paragraph, PassageTable, paragraphs_from_rows, read_language
from relkt.data.types import DataError, Query, sort_languages

LANGUAGES = ("en", "ar", "de", "el", "es", "hi", "ro", "ru", "th", "tr", "vi", "zh")

_HUB = "google/xquad"
# The Hub's rows lack titles. XQuAD's questions come from the dev set of SQuAD v1.1, under the same ids.
_HUB_TITLES = "rajpurkar/squad"


def read_xquad(folder: Path | None, languages: Sequence[str] | None, passage_language: str) -> RawData:
    """Reads XQuAD.

    Candidates are the paragraphs in one language; documents are the articles. In the files, a question and its
    translations have the same id. This id becomes ``Query.parallel``; ``Query.id`` is ``ID-LANGUAGE``. The paragraphs
    in the other languages are the passages' translations.

    Args:
        folder: Folder of the published files ``xquad.LANGUAGE.json``. None: ``google/xquad`` from the Hub, with the
            articles' titles from ``rajpurkar/squad``.
        languages: Languages of the questions; None for all 12.
        passage_language: Language of the candidates.

    Raises:
        DataError: If a file is missing or malformed, or a question does not exist in the passages' language.
    """
    wanted = sort_languages({*(LANGUAGES if languages is None else languages), passage_language})
    titles = None
    if folder is None:
        titles = {row["id"]: row["title"] for row in hub_rows(_HUB_TITLES, None, "validation")}
    table = PassageTable(passage_language)
    passage_of = {
        question.id: table.add(paragraph.title, paragraph.context)
        for paragraph in _paragraphs(folder, passage_language, passage_language, titles)
        for question in paragraph.questions
    }
    queries: list[Query] = []
    translations: dict[str, dict[str, str]] = {code: {} for code in wanted if code != passage_language}
    for language in wanted:
        for paragraph in _paragraphs(folder, language, passage_language, titles):
            for question in paragraph.questions:
                if question.id not in passage_of:
                    raise DataError(
                        f"XQuAD, language {language!r}: question {question.id!r} does not exist in the passages' "
                        f"language {passage_language!r}"
                    )
                queries.append(
                    Query(id=f"{question.id}-{language}", text=question.text, language=language, parallel=question.id)
                )
                if language != passage_language:
                    translations[language].setdefault(passage_of[question.id], paragraph.context)
    return RawData(
        name="xquad",
        passages=table.passages,
        queries=queries,
        qrels={query.id: {passage_of[query.parallel]: 1} for query in queries},
        paper=SplitBy.QUESTION,
        translations=translations,
    )


def _paragraphs(
    folder: Path | None, language: str, passage_language: str, titles: dict[str, str] | None
) -> list[Paragraph]:
    if folder is None:
        return paragraphs_from_rows(hub_rows(_HUB, f"xquad.{language}", "validation"), titles)
    return read_language(folder / f"xquad.{language}.json", language, passage_language)
