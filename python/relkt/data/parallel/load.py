"""Load parallel text from files of any common format, or from the Hub."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import chain
from pathlib import Path

from relkt.data.hub_download import hub_rows
from relkt.data.parallel.catalogues import read_catalogue
from relkt.data.parallel.languages import language_code
from relkt.data.parallel.moses import moses_files, read_moses
from relkt.data.parallel.records import Record, plain_suffix
from relkt.data.parallel.tables import read_json_lines, read_tsv, texts_of
from relkt.data.parallel.text import UNKNOWN_LANGUAGE, Pair, ParallelText, folded
from relkt.data.parallel.tmx import read_tmx
from relkt.data.types import DataError

MAX_CHARACTERS = 2000
"""Default maximum length of a text in characters; longer texts are left out."""
HUB = "hub:"
"""Prefix of a data set on the Hugging Face Hub."""

_log = logging.getLogger(__name__)

_READERS: dict[str, Callable[[Path, str | None], Iterator[Record]]] = {
    **dict.fromkeys((".tsv", ".txt", ".tab"), read_tsv),
    **dict.fromkeys((".jsonl", ".ndjson"), read_json_lines),
    ".tmx": read_tmx,
    **dict.fromkeys((".po", ".pot", ".mo"), read_catalogue),
}


def load_parallel(
    paths: str | Path | Sequence[str | Path],
    *,
    language: str | None = None,
    languages: Iterable[str] | None = None,
    max_characters: int = MAX_CHARACTERS,
    progress: Callable[[int], None] | None = None,
) -> ParallelText:
    """Load English texts with their translations, for the stages that need no labels.

    Formats, by the end of a file's name (all except catalogues may be compressed, with ``.gz`` appended):

    - ``.tsv``, ``.txt``: a column of English texts, one of translations and optionally one of the translations'
      languages; or any columns under a header of language codes (``en``, ``de``, ...);
    - ``.jsonl``: ``{"en": ..., "de": ...}``, the same in an object ``translation``, or ``{"english": ...,
      "non_english": ...}`` (also ``text`` for ``non_english``, and optionally ``language``);
    - Moses pairs: ``NAME.en`` and ``NAME.de``, given as either file or as ``NAME``;
    - ``.tmx``: translation memories;
    - ``.po``, ``.mo``: gettext catalogues with English messages (needs ``pip install 'relkt[parallel]'``);
    - a folder: all such files in the folder and its subfolders;
    - ``hub:NAME`` or ``hub:NAME/CONFIG``: the train split of a data set on the Hugging Face Hub, with columns named
      like the keys of JSON lines.

    Files are read as streams. These are left out, and ``left_out`` counts them by reason: records without an English
    text or without a translation, copies of the English text, texts of more than ``max_characters`` characters, and
    repeated pairs.

    Args:
        paths: One or several files, folders or data sets.
        language: Language of translations if neither the file nor its name states it; default ``"und"``.
        languages: Languages to keep; None keeps all.
        max_characters: Longest text kept, in characters, at least 1. Default 2000.
        progress: Called with the number of records read since the last call.

    Returns:
        The pairs, in the order of the files.

    Raises:
        DataError: If a file does not exist, has no known format or is malformed (names file, place and value), or no
            pair is left.
        ValueError: If ``language`` or one of ``languages`` is not a language code, or ``max_characters`` is below 1.
        ImportError: If a catalogue is given and polib is not installed.
    """
    if max_characters < 1:
        raise ValueError(f"max_characters: expected an integer of at least 1, got {max_characters}")
    default = None if language is None else _code("language", language)
    if isinstance(languages, str):
        raise ValueError(f"languages: expected a list of language codes, got the string {languages!r}")
    wanted = None if languages is None else {_code("languages", code) for code in languages}
    given = [paths] if isinstance(paths, (str, Path)) else list(paths or ())
    if not given:
        raise ValueError("paths: expected at least one file, folder or data set, got none")
    # All names are checked before the first file is read.
    sources = [source for item in given for source in _sources(str(item), default)]
    collected = _Collector(wanted, max_characters)
    for number, record in enumerate(chain.from_iterable(read() for _, read in sources), start=1):
        collected.add(record)
        if progress is not None and number % 1000 == 0:
            progress(1000)
    result = ParallelText(tuple(collected.pairs), collected.left_out, tuple(name for name, _ in sources))
    _log.info("parallel text: %s", result.summary())
    if not result.pairs:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in result.left_out.items()) or "files are empty"
        raise DataError(
            f"paths: expected at least one pair of texts in {', '.join(map(str, given))}, got none: {reasons}"
        )
    if UNKNOWN_LANGUAGE in result.languages:
        _log.warning(
            "parallel text: %d pairs do not name their language; name it in a header (en<TAB>de), in the name of the "
            "file (pairs.en-de.tsv), or pass language=",
            result.counts[UNKNOWN_LANGUAGE],
        )
    return result


class _Collector:
    """Pairs without duplicates, and counts of the records left out.

    Args:
        languages: Languages to keep; None for all.
        max_characters: Longest text kept.
    """

    def __init__(self, languages: set[str] | None, max_characters: int) -> None:
        self.pairs: list[Pair] = []
        self.left_out: dict[str, int] = {}
        self._languages = languages
        self._max_characters = max_characters
        self._seen: set[tuple[str, bytes]] = set()

    def add(self, record: Record) -> None:
        """Adds the pairs of a record, or counts the record by the reason to leave it out."""
        english = " ".join(record.texts.get("en", "").split())
        others = {code: text for code, text in record.texts.items() if code != "en"}
        if record.problem:
            self._leave_out(record.problem)
        elif not english:
            self._leave_out("without English")
        elif not others:
            self._leave_out("without a translation")
        else:
            for code, text in others.items():
                self._add(english, " ".join(text.split()), code)

    def _add(self, english: str, text: str, language: str) -> None:
        if self._languages is not None and language not in self._languages:
            self._leave_out("in other languages")
        elif not text:
            self._leave_out("without a translation")
        elif max(len(english), len(text)) > self._max_characters:
            self._leave_out(f"longer than {self._max_characters:,} characters")
        elif folded(english) == folded(text):
            self._leave_out("equal to the English text")
        else:
            key = language, blake2b(f"{english}\0{text}".encode("utf-8", "surrogatepass"), digest_size=16).digest()
            if key in self._seen:
                self._leave_out("repeated")
                return
            self._seen.add(key)
            self.pairs.append(Pair(english, text, language))

    def _leave_out(self, reason: str) -> None:
        self.left_out[reason] = self.left_out.get(reason, 0) + 1


_Source = tuple[str, Callable[[], Iterator[Record]]]


def _sources(name: str, language: str | None) -> list[_Source]:
    """Returns the name and the reader of each file of a path."""
    if name.startswith(HUB):
        if not name.removeprefix(HUB).strip("/:"):
            raise DataError(f"paths: expected hub:NAME or hub:NAME/CONFIG, got {name!r}")
        return [(name, lambda: _hub(name.removeprefix(HUB), language))]
    path = Path(name).expanduser()
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.is_file() and _is_known(p))
        sources: dict[str, _Source] = {}
        for file in found:
            sources.update({source[0]: source for source in _file_sources(file, language)})
        if not sources:
            raise DataError(f"{path}: expected a folder with parallel text ({_known()}), got none in it")
        return list(sources.values())
    return _file_sources(path, language)


def _file_sources(path: Path, language: str | None) -> list[_Source]:
    suffix = plain_suffix(path)
    if reader := _READERS.get(suffix):
        if not path.is_file():
            raise DataError(f"{path}: file not found")
        return [(str(path), lambda: reader(path, language))]
    files = moses_files(path)
    if files is not None:
        return [(" + ".join(map(str, files.values())), lambda: read_moses(files))]
    if not path.exists():
        raise DataError(f"{path}: file not found")
    raise DataError(f"{path}: expected parallel text ({_known()}), got a file that ends in {suffix or 'nothing'!r}")


def _is_known(path: Path) -> bool:
    return plain_suffix(path) in _READERS or (plain_suffix(path) == ".en" and moses_files(path) is not None)


def _known() -> str:
    return f"{', '.join(_READERS)}, or a Moses pair NAME.en and NAME.LANG"


def _hub(name: str, language: str | None) -> Iterator[Record]:
    repository, _, config = name.partition(":")
    default = language or UNKNOWN_LANGUAGE
    parts = repository.split("/")
    if len(parts) == 3:  # owner/name/config
        repository, config = "/".join(parts[:2]), parts[2]
    if language is None and config:
        codes = [code for code in map(language_code, config.split("-")) if code and code != "en"]
        default = codes[0] if codes else default
    for number, row in enumerate(hub_rows(repository, config or None, "train")):
        where = f"{name}, row {number}"
        yield Record(where, texts_of(row, default, where))


def _code(argument: str, value: str) -> str:
    code = language_code(value)
    if code is None:
        raise ValueError(f"{argument}: expected a language code such as de or pt_BR, got {value!r}")
    return code
