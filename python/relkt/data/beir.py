"""Reader and writer of the BEIR layout, for your data: corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from relkt.data.beir_records import Judgement, Record, put_together, read_passages, read_queries
from relkt.data.parsing import iter_json_lines, iter_lines
from relkt.data.raw import RawData
from relkt.data.types import DataError, Passage, Query, RetrievalData, Split
from relkt.storage import atomic_write

CORPUS = "corpus.jsonl"
QUERIES = "queries.jsonl"
QRELS = "qrels"
HEADER = ("query-id", "corpus-id", "score")

_SPLIT_FILES = {f"{split.value}.tsv": split for split in Split}


def read_beir(folder: Path, name: str = "beir") -> RawData:
    """Reads a data set in the BEIR layout.

    - ``corpus.jsonl``: ``_id`` and ``text``; optional ``title``, ``document`` (default: the passage's own id) and
      ``language`` (default ``"en"``). Only ``text`` is embedded.
    - ``queries.jsonl``: ``_id`` and ``text``; optional ``language`` (default ``"en"``) and ``parallel``, the common id
      of all translations of a question (default: the query's own id).
    - ``qrels/train.tsv``, ``dev.tsv``, ``test.tsv``, or a single file of any name in ``qrels``: tab-separated with the
      header ``query-id corpus-id score``; the score is an integer, above 0 for a positive.

    ``document``, ``language`` and ``parallel`` may also be in ``metadata``.

    If there are several qrels files, a query belongs to the split whose file judges it. A single file defines a split
    only if it is named train, dev or test and ``SplitBy.OFFICIAL`` is chosen. Queries without a positive are left out,
    and their number is logged as a warning.

    Args:
        folder: Folder of the files.
        name: Name of the data set.

    Raises:
        DataError: If a file is missing or malformed, an id repeats, qrels name an unknown query or passage, a query is
            judged in two splits, or no query has a positive. The message names file, line and value.
    """
    passages = read_passages(_records(folder / CORPUS), str(folder / CORPUS))
    queries = read_queries(_records(folder / QUERIES))
    files = _qrels_files(folder / QRELS)
    return put_together(
        name,
        passages,
        queries,
        (judgement for path in files for judgement in _read_qrels(path)),
        parts={path.name: _SPLIT_FILES.get(path.name) for path in files},
        source=str(folder / QRELS),
        corpus=CORPUS,
        questions=QUERIES,
    )


def save_beir(data: RetrievalData, folder: str | Path) -> None:
    """Writes a data set in the BEIR layout; :func:`load_data` reads the same data set back.

    The layout does not store which documents are held out. If documents of ``data`` are held out, load the files with
    ``unseen_documents=True``.

    Empty splits get a qrels file with the header only, so that loading keeps the splits.

    Args:
        data: The data set.
        folder: Folder to write to; created if needed.

    Raises:
        DataError: If an id contains a tab or a line break, which the qrels files cannot hold.
        FileExistsError: If the folder already holds files of this layout.
    """
    folder = Path(folder)
    items: list[Passage | Query] = [*data.passages, *data.queries]
    for item in items:
        if any(c in item.id for c in "\t\n\r"):
            raise DataError(
                f"{type(item).__name__.lower()} id {item.id!r}: expected an id without tabs and line breaks"
            )
    contents = {
        folder / CORPUS: _json_lines(
            {"_id": p.id, "title": p.title, "text": p.text, "document": p.document, "language": p.language}
            for p in data.passages
        ),
        folder / QUERIES: _json_lines(
            {"_id": q.id, "text": q.text, "language": q.language, "parallel": q.parallel} for q in data.queries
        ),
    }
    for split in Split:
        rows = ["\t".join(HEADER)]
        for query in data.queries:
            if query.split is split:
                rows += [f"{query.id}\t{passage}\t{score}" for passage, score in data.qrels[query.id].items()]
        contents[folder / QRELS / f"{split.value}.tsv"] = "".join(f"{row}\n" for row in rows).encode()
    for path in contents:
        if path.exists():
            raise FileExistsError(f"folder: {path} exists already; choose another folder")
    (folder / QRELS).mkdir(parents=True, exist_ok=True)
    for path, content in contents.items():
        atomic_write(path, content)


def _records(path: Path) -> Iterable[Record]:
    for number, record in iter_json_lines(path):
        yield f"{path}, line {number}", record


def _qrels_files(folder: Path) -> list[Path]:
    found = sorted(folder.glob("*.tsv")) if folder.is_dir() else []
    if not found:
        raise DataError(f"{folder}: expected {', '.join(_SPLIT_FILES)}, or one .tsv file of any name, found none")
    if len(found) > 1:
        for path in found:
            if path.name not in _SPLIT_FILES:
                raise DataError(
                    f"{path}: expected only {', '.join(_SPLIT_FILES)}, or one .tsv file of any name, in {folder}"
                )
    return found


def _read_qrels(path: Path) -> Iterable[Judgement]:
    lines = iter_lines(path)
    _, header = next(lines, (1, ""))
    if tuple(_fields(header)) != HEADER:
        raise DataError(
            f"{path}, line 1: expected the header {' '.join(HEADER)}, tab-separated, got {_fields(header)!r}"
        )
    for number, line in lines:
        where = f"{path}, line {number}"
        fields = _fields(line)
        if fields == [""]:
            continue
        if len(fields) != len(HEADER):
            raise DataError(f"{where}: expected {len(HEADER)} tab-separated fields, got {len(fields)}: {fields!r}")
        query, passage, score = fields
        try:
            yield Judgement(where, path.name, query, passage, int(score))
        except ValueError as error:
            raise DataError(f"{where}: expected an integer score, got {score!r}") from error


def _fields(line: str) -> list[str]:
    return line.rstrip("\r\n").split("\t")


def _json_lines(records: Iterable[dict[str, str]]) -> bytes:
    return "".join(f"{json.dumps(record, ensure_ascii=False)}\n" for record in records).encode()
