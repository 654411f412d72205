"""MLQA: questions about English paragraphs, in 7 languages; each question exists in 4 of them on average."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from relkt.data.hub_download import hub_rows
from relkt.data.raw import RawData
from relkt.data.squad import Paragraph, PassageTable, paragraphs_from_rows, read_language
from relkt.data.types import DataError, Query, Split, sort_languages

LANGUAGES = ("en", "ar", "de", "es", "hi", "vi", "zh")

_HUB = "google/xtreme"
_PARTS = {"dev": Split.DEV, "test": Split.TEST}
_HUB_SPLITS = {"dev": "validation", "test": "test"}

_log = logging.getLogger(__name__)


def read_mlqa(folder: Path | None, languages: Sequence[str] | None, passage_language: str) -> RawData:
    """Reads MLQA.

    The files are ``PART/PART-context-CONTEXT_LANGUAGE-question-LANGUAGE.json`` for the parts ``dev`` and ``test``, as
    in ``MLQA_V1.zip``. The candidates are all paragraphs of both parts in one language. They are read from the
    files whose questions are in the same language; in English, these files have all questions. Documents are the
    articles.

    Splits: MLQA is published as dev (1,148 English questions) and test (11,590), without a training part. A split
    by question or document pools both parts and divides them 60/20/20. ``SplitBy.OFFICIAL`` keeps dev as dev and test
    as test, and train is empty. ``SplitBy.PAPER`` follows CL-ReLKT: dev becomes test, and test is divided into
    train and dev, 75/25 by default. CL-ReLKT's notebook/MLQA.ipynb shows that its test set is MLQA's dev part: it has
    517 ar, 512 de, 500 es, 507 hi, 511 vi and 504 zh questions, which are the published sizes of dev. The authors of
    CL-ReLKT search only the paragraphs of the evaluated part and language pair. Here, every query searches all
    paragraphs, which is harder.

    Args:
        folder: ``MLQA_V1``, or its parent folder; None loads MLQA from ``google/xtreme`` on the Hub.
        languages: Languages of the questions; None for all 7.
        passage_language: Language of the candidates.

    Raises:
        DataError: If a file is missing or malformed, a question id repeats, or a question does not exist in the
            passages' language.
    """
    wanted = sort_languages({*(LANGUAGES if languages is None else languages), passage_language})
    if folder is not None and (folder / "MLQA_V1").is_dir():
        folder = folder / "MLQA_V1"
    table = PassageTable(passage_language)
    passage_of: dict[str, str] = {}
    part_of: dict[str, str] = {}
    for part in _PARTS:
        for paragraph in _paragraphs(folder, part, passage_language, passage_language):
            passage = table.add(paragraph.title, paragraph.context)
            for question in paragraph.questions:
                if question.id in passage_of:
                    raise DataError(f"MLQA, part {part!r}: question {question.id!r} appears twice")
                passage_of[question.id] = passage
                part_of[question.id] = part
    queries: list[Query] = []
    parts: dict[str, Split] = {}
    elsewhere = 0
    for part in _PARTS:
        for language in wanted:
            for paragraph in _paragraphs(folder, part, passage_language, language):
                # This only finds the paragraph: adding one would make the candidates depend on the chosen languages.
                found = table.find(paragraph.title, paragraph.context)
                for question in paragraph.questions:
                    if part_of.get(question.id) != part:
                        raise DataError(
                            f"MLQA, part {part!r}, language {language!r}: question {question.id!r} does not exist in "
                            f"that part in the passages' language {passage_language!r}"
                        )
                    elsewhere += found != passage_of[question.id]
                    query_id = f"{question.id}-{language}"
                    queries.append(Query(id=query_id, text=question.text, language=language, parallel=question.id))
                    parts[query_id] = _PARTS[part]
    qrels = {query.id: {passage_of[query.parallel]: 1} for query in queries}
    if elsewhere:
        _log.warning(
            "MLQA: %d questions are on another paragraph than in %s; the paragraph in %s is their positive",
            elsewhere,
            passage_language,
            passage_language,
        )
    return RawData(
        name="mlqa",
        passages=table.passages,
        queries=queries,
        qrels=qrels,
        parts=parts,
        paper={Split.DEV: (Split.TEST,), Split.TEST: (Split.TRAIN, Split.DEV)},
    )


def _paragraphs(folder: Path | None, part: str, context_language: str, language: str) -> list[Paragraph]:
    if folder is None:
        return paragraphs_from_rows(hub_rows(_HUB, f"MLQA.{context_language}.{language}", _HUB_SPLITS[part]))
    path = folder / part / f"{part}-context-{context_language}-question-{language}.json"
    return read_language(path, language, context_language)
