"""The questions of ``relkt search``: from its arguments, a file or standard input."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from relkt.data import DataError
from relkt.data.parsing import iter_lines, parse_object, string_field

STANDARD_INPUT = "-"
"""File name that stands for standard input."""


def read_questions(given: Sequence[str] | None, file: str | None) -> tuple[list[str], list[str]]:
    """Ids and texts of the questions.

    Args:
        given: Questions from the command line; their ids are 1, 2, ...
        file: A file of questions, one per line, plain or JSON; ``-`` is standard input. Standard input is also read if
            there is neither a file nor a question on the command line. The id of a plain question is its line number.

    Raises:
        ValueError: If there is no source of questions, or there are two.
        DataError: If a line of the file is not a question, or an id is repeated.
    """
    if given and file:
        raise ValueError("QUESTIONS, --file: expected one of them, got both")
    if given:
        if blank := [number for number, text in enumerate(given, start=1) if not text.strip()]:
            raise ValueError(f"QUESTIONS: expected texts, got an empty text as number {blank[0]}")
        return [str(number) for number in range(1, len(given) + 1)], list(given)
    if file is None and sys.stdin.isatty():
        raise ValueError("QUESTIONS: expected a question, --file with a file of questions, or standard input")
    name = file or STANDARD_INPUT
    lines = _standard_input() if name == STANDARD_INPUT else iter_lines(Path(name))
    questions = [_question(name, number, line) for number, line in lines if line.strip()]
    if not questions:
        raise DataError(f"{file or 'QUESTIONS, --file, standard input'}: expected at least one question, got none")
    ids = [question_id for question_id, _ in questions]
    if repeated := next((one for one in ids if ids.count(one) > 1), None) if len(set(ids)) < len(ids) else None:
        raise DataError(f"{name}: expected unique ids, got {repeated!r} more than once")
    return ids, [text for _, text in questions]


def _question(name: str, number: int, line: str) -> tuple[str, str]:
    """Id and text of a line's question."""
    where = f"{name}, line {number}"
    if not line.lstrip().startswith("{"):
        return str(number), line.strip()
    record = parse_object(Path(name), number, line)
    text = string_field(record, "text", where)
    if not text.strip():
        raise DataError(f"{where}: expected a question, got an empty text")
    question_id = record.get("_id", record.get("id", number))
    if isinstance(question_id, bool) or not isinstance(question_id, str | int):
        raise DataError(f"{where}: expected a text or an integer as id, got {question_id!r}")
    return str(question_id), text


def _standard_input() -> Iterable[tuple[int, str]]:
    try:
        # Split only at \n, as in a file: a text may contain other line separators.
        return list(enumerate(sys.stdin.buffer.read().decode("utf-8-sig").split("\n"), start=1))
    except UnicodeDecodeError as error:
        raise DataError(f"standard input: expected UTF-8, got {error.reason} at byte {error.start}") from error
