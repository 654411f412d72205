"""XOR-TyDi QA: questions in 7 languages, asked by native speakers, with gold paragraphs from English Wikipedia."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from relkt.data.parsing import iter_json_lines, string_field
from relkt.data.raw import RawData
from relkt.data.squad import PassageTable, read_paragraphs
from relkt.data.types import DataError, Query, Split

LANGUAGES = ("ar", "bn", "fi", "ja", "ko", "ru", "te")

FILES = {Split.TRAIN: "gp_squad_train_data.json", Split.DEV: "gp_squad_dev_data.json"}
ENGLISH_QUESTIONS = "english_questions.jsonl"

_FOLDERS = ("tydi_xor_gp", "xorqa_reading_comprehension_format")
# The published titles contain the section: "title:Vamsy_parentSection:Introduction_sectionName:Career._sectionIndex:2".
_TITLE = re.compile(r"title:(?P<title>.*?)_parentSection:.*", re.DOTALL)

_log = logging.getLogger(__name__)


def read_xorqa(folder: Path) -> RawData:
    """Reads XOR-TyDi QA's gold paragraphs.

    It reads the two SQuAD-like files of ``tydi_xor_gp.zip``, ``gp_squad_train_data.json`` and
    ``gp_squad_dev_data.json``, in which ``lang`` is the language of a question. The files
    ``xor_*_retrieve_eng_span*.jsonl`` are not supported: they have questions and answers, but no passages.

    Candidates are all gold paragraphs, in English; documents are the Wikipedia articles that the titles name. The
    positives of a question are all paragraphs that list it. XOR-TyDi QA has no English questions (the CL-ReLKT authors
    used machine translations). If the folder has the file ``english_questions.jsonl`` with ``{"id", "question"}`` on
    each line, these become English queries, parallel to the questions with the same ids.

    A split by question or by document pools both files and cuts them 60/20/20. ``SplitBy.OFFICIAL`` keeps train as
    train and dev as dev; the published test questions have no passages. ``SplitBy.PAPER`` uses dev as test, because dev
    is the only held-out part with passages. It cuts train into train and dev, 75/25 by default.

    Args:
        folder: Folder with the files, or with the folder ``tydi_xor_gp`` or ``xorqa_reading_comprehension_format``.

    Raises:
        DataError: If a file is missing or malformed, a question has no language, or a question id has two texts.
    """
    for name in _FOLDERS:
        if (folder / name).is_dir():
            folder = folder / name
    table = PassageTable("en")
    queries: dict[str, Query] = {}
    qrels: dict[str, dict[str, int]] = {}
    parts: dict[str, Split] = {}
    in_both = 0
    for part, name in FILES.items():
        path = folder / name
        if not path.is_file():
            raise DataError(f"{path}: file not found; expected XOR-TyDi QA's gold paragraphs (tydi_xor_gp.zip)")
        for paragraph in read_paragraphs(path):
            match = _TITLE.fullmatch(paragraph.title)
            passage = table.add(match["title"] if match else paragraph.title, paragraph.context)
            for question in paragraph.questions:
                if not question.language:
                    raise DataError(f"{path}: question {question.id!r}: expected a language in 'lang', found none")
                query = Query(id=question.id, text=question.text, language=question.language, parallel=question.id)
                known = queries.setdefault(question.id, query)
                if known != query:
                    raise DataError(
                        f"{path}: question {question.id!r} has two texts or languages: "
                        f"{known.text!r} ({known.language}) and {query.text!r} ({query.language})"
                    )
                in_both += parts.setdefault(question.id, part) is not part
                qrels.setdefault(question.id, {})[passage] = 1
    if in_both:
        _log.warning("XOR-TyDi QA: %d paragraphs of dev have a question of train, which stays in train", in_both)
    for english in _english_questions(folder / ENGLISH_QUESTIONS, queries):
        queries[english.id] = english
        qrels[english.id] = dict(qrels[english.parallel])
        parts[english.id] = parts[english.parallel]
    return RawData(
        name="xorqa",
        passages=table.passages,
        queries=tuple(queries.values()),
        qrels=qrels,
        parts=parts,
        paper={Split.TRAIN: (Split.TRAIN, Split.DEV), Split.DEV: (Split.TEST,)},
    )


def _english_questions(path: Path, queries: dict[str, Query]) -> list[Query]:
    if not path.is_file():
        return []
    out: dict[str, Query] = {}
    for number, record in iter_json_lines(path):
        where = f"{path}, line {number}"
        question_id = string_field(record, "id", where)
        if question_id not in queries:
            raise DataError(f"{where}: expected the id of a question in the gold paragraph files, got {question_id!r}")
        if question_id in out:
            raise DataError(f"{where}: question {question_id!r} appears twice")
        out[question_id] = Query(
            id=f"{question_id}-en",
            text=string_field(record, "question", where),
            language="en",
            parallel=question_id,
        )
    return list(out.values())
