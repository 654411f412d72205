"""Parsing of text and JSON files; every error names the file and the place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from relkt.data.types import DataError


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        DataError: If the file is missing, not UTF-8 or not JSON.
    """
    text = "".join(line for _, line in iter_lines(path))
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}, line {error.lineno}, column {error.colno}: expected JSON, got an error: {error.msg}"
        ) from error
    except (ValueError, RecursionError) as error:  # huge numbers; deeply nested brackets
        raise DataError(f"{path}: expected JSON, got an error: {error}") from error


def iter_json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields line number (from 1) and object of each line of a JSON lines file; skips blank lines.

    Raises:
        DataError: If the file is missing or not UTF-8, or a line is not a JSON object.
    """
    for number, line in iter_lines(path):
        if not line.strip():
            continue
        yield number, parse_object(path, number, line)


def parse_object(path: Path, number: int, line: str) -> dict[str, Any]:
    """Parses one line of a JSON lines file.

    Args:
        path: The file, for errors.
        number: Number of the line, for errors.
        line: The line.

    Raises:
        DataError: If the line is not a JSON object.
    """
    try:
        record = json.loads(line, object_pairs_hook=_object)
    except _RepeatedKeyError as error:
        raise DataError(f"{path}, line {number}: expected each key once, got {error.args[0]!r} twice") from None
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}, line {number}, column {error.colno}: expected a JSON object, got an error: {error.msg}"
        ) from error
    except (ValueError, RecursionError) as error:  # huge numbers; deeply nested brackets
        raise DataError(f"{path}, line {number}: expected a JSON object, got an error: {error}") from error
    if not isinstance(record, dict):
        raise DataError(f"{path}, line {number}: expected a JSON object, got {shorten(record)}")
    return record


class _RepeatedKeyError(Exception):
    pass


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise _RepeatedKeyError(next(name for name in names if names.count(name) > 1))
    return found


def iter_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yields line number (from 1) and text, with its newline, of each line of a UTF-8 file.

    Raises:
        DataError: If the file is missing or not UTF-8.
    """
    try:
        with path.open("rb") as file:
            # Decode line by line, so that an error can name the line.
            for number, line in enumerate(file, start=1):
                # utf-8-sig drops a byte order mark, which some editors write.
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
    except FileNotFoundError as error:
        raise DataError(f"{path}: file not found") from error
    except IsADirectoryError as error:
        raise DataError(f"{path}: expected a file, got a folder") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}, line {number}: expected UTF-8 text, got {error.reason} at byte {error.start} of the line"
        ) from error


def string_field(record: dict[str, Any], field: str, where: str, *, default: str | None = None) -> str:
    """Returns a string field of a record.

    Args:
        record: A JSON object.
        field: The key.
        where: File and place, for errors.
        default: Value of a missing key; None makes the key required.

    Raises:
        DataError: If a required key is missing, or the value is not a string or not valid Unicode.
    """
    if field not in record:
        if default is None:
            raise DataError(
                f"{where}: expected the field {field!r}, got only {', '.join(map(repr, record)) or 'an empty object'}"
            )
        return default
    value = record[field]
    if not isinstance(value, str):
        raise DataError(f"{where}: expected a string in {field!r}, got {shorten(value)}")
    return unicode_text(value, field, where)


def unicode_text(value: str, field: str, where: str) -> str:
    """Checks that a string is valid Unicode, and returns it.

    Args:
        value: The string.
        field: Its key, for errors.
        where: File and place, for errors.

    Raises:
        DataError: If the string is not valid Unicode: JSON may contain half of a surrogate pair, which neither files
            nor tokenizers accept.
    """
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{where}: expected Unicode text in {field!r}, got the lone surrogate {value[error.start]!r} at character "
            f"{error.start}"
        ) from error
    return value


def list_field(record: dict[str, Any], field: str, where: str) -> list[Any]:
    """Returns a list field of a record.

    Args:
        record: A JSON object.
        field: The key.
        where: File and place, for errors.

    Raises:
        DataError: If the key is missing, or its value is not a list.
    """
    value = record.get(field)
    if not isinstance(value, list):
        raise DataError(f"{where}: expected a list in {field!r}, got {shorten(value)}")
    return value


def json_object(value: Any, where: str) -> dict[str, Any]:
    """Checks that a value is a JSON object, and returns it.

    Raises:
        DataError: If the value is not an object. The message names ``where``, which is the value's file and place.
    """
    if not isinstance(value, dict):
        raise DataError(f"{where}: expected an object, got {shorten(value)}")
    return value


def shorten(value: object, limit: int = 80) -> str:
    """Returns a value's repr, cut for an error message."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
