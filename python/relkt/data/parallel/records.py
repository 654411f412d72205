"""Records of parallel text, and reading of files that may be compressed."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, NamedTuple, cast

from relkt.data.types import DataError


class Record(NamedTuple):
    """One record of a file: a text in several languages.

    Args:
        where: File and place, for errors.
        texts: Language -> text; a usable record has ``en``.
        problem: Reason to leave the record out, found by the reader of its format (e.g. ``"fuzzy"``); empty by default.
    """

    where: str
    texts: Mapping[str, str]
    problem: str = ""


def open_file(path: Path) -> IO[bytes]:
    """Open a file for reading; if its name ends in ``.gz``, decompress what is read.

    Raises:
        DataError: If the file does not exist or is a folder.
    """
    try:
        return cast("IO[bytes]", gzip.open(path, "rb")) if path.suffix.lower() == ".gz" else path.open("rb")
    except FileNotFoundError as error:
        raise DataError(f"{path}: file not found") from error
    except IsADirectoryError as error:
        raise DataError(f"{path}: expected a file, got a folder") from error


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yields the number (from 1) and the text, without the line break, of each line of a UTF-8 file.

    Raises:
        DataError: If the file is missing, damaged or not UTF-8.
    """
    number = 0
    try:
        with open_file(path) as file:
            for number, line in enumerate(file, start=1):
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        utf_16 = number == 1 and error.object[:2] in (b"\xff\xfe", b"\xfe\xff")
        hint = "; it looks like UTF-16: convert it with iconv -f UTF-16 -t UTF-8" if utf_16 else ""
        raise DataError(f"{path}, line {number}: expected UTF-8 text, got {error.reason}{hint}") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path}, after line {number}: expected a gzip file, got damaged data: {error}") from error


def plain_suffix(path: Path) -> str:
    """The ending of a file's name in lower case, without ``.gz``."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    return next((suffix for suffix in reversed(suffixes) if suffix != ".gz"), "")
