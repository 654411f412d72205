"""Reader of query-positive pairs and further passages from JSON lines, Parquet, CSV or the BEIR layout."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from relkt.data.beir import CORPUS, QRELS, QUERIES, read_beir
from relkt.data.pairs import PairSet, PairSetBuilder
from relkt.data.parsing import iter_lines, shorten, string_field
from relkt.data.records import JSON_LINES, read_records
from relkt.data.types import DataError, Split, parse_member
from relkt.errors import ArgumentError, ArgumentMessage


@dataclass(frozen=True)
class PairColumns:
    """Names of the columns of a file of pairs; None stands for the first of the usual names that occurs in a record.

    Attributes:
        query: The query. Usual names: anchor, query, question.
        positive: The positive, or a list of positives. Usual names: positive, answer, passage.
        query_id: Optional: id of the query. Usual names: query_id, anchor_id.
        positive_id: Optional: id of the positive, or a list of ids for a list of positives. Usual names: positive_id,
            answer_id, passage_id.
        document: Optional, and a record may lack it: document of the positive. Usual names: document, document_id.
    """

    query: str | None = None
    positive: str | None = None
    query_id: str | None = None
    positive_id: str | None = None
    document: str | None = None


@dataclass(frozen=True)
class CorpusColumns:
    """Names of the columns of a file of passages, as in :class:`PairColumns`.

    Attributes:
        text: The passage. Usual names: text, passage, positive, answer.
        id: Optional: id of the passage. Usual names: _id, id, passage_id.
        document: Optional, and a record may lack it: document of the passage. Usual names: document, document_id.
    """

    text: str | None = None
    id: str | None = None
    document: str | None = None


_USUAL: Mapping[type, Mapping[str, tuple[str, ...]]] = {
    PairColumns: {
        "query": ("anchor", "query", "question"),
        "positive": ("positive", "answer", "passage"),
        "query_id": ("query_id", "anchor_id"),
        "positive_id": ("positive_id", "answer_id", "passage_id"),
        "document": ("document", "document_id"),
    },
    CorpusColumns: {
        "text": ("text", "passage", "positive", "answer"),
        "id": ("_id", "id", "passage_id"),
        "document": ("document", "document_id"),
    },
}
_NEEDED = {"query", "positive", "text"}
"""Required columns."""


def read_pair_files(
    pairs: Path,
    corpus: Path | None = None,
    *,
    columns: PairColumns | None = None,
    corpus_columns: CorpusColumns | None = None,
    split: Split | str | None = None,
) -> PairSet:
    """Reads pairs and further passages, and checks every row.

    Args:
        pairs: ``.jsonl``, ``.parquet``, ``.csv`` or ``.tsv`` (with a header), or a folder in the BEIR layout.
        corpus: Further passages, in the same formats or in ``.txt`` with one passage per line. Not
            allowed if ``pairs`` is a folder.
        columns: Names of the columns of ``pairs``.
        corpus_columns: Names of the columns of ``corpus``.
        split: If ``pairs`` is a folder, read only the queries of ``qrels/SPLIT.tsv``. Default: all queries.

    Raises:
        DataError: If a file is missing or malformed, or a column is missing; or if a row has no text, lacks an id that
            other rows have, or has its document in another column than other rows. The message names the file, the row
            and the value.
        ArgumentError: If arguments do not fit together.
        ImportError: If a Parquet file is given and pyarrow is not installed.
    """
    if pairs.is_dir():
        for name, given in (("corpus", corpus), ("columns", columns), ("corpus_columns", corpus_columns)):
            if given is not None:
                raise ArgumentError(name, f"none with {pairs}, a folder in the BEIR layout", given)
        return _read_folder(pairs, None if split is None else parse_member(Split, split, "split"))
    if split is not None:
        raise ArgumentError("split", "only with a folder in the BEIR layout", f"the file {pairs}")
    builder = PairSetBuilder()
    # Read the corpus first, so that a positive without an id matches the corpus passage with the same text.
    if corpus is not None:
        _add_corpus(builder, corpus, corpus_columns or CorpusColumns())
    _add_pairs(builder, pairs, columns or PairColumns())
    found = builder.build()
    if not len(found.pairs):
        raise DataError(f"{pairs}: expected at least one pair, got none")
    return found


class ColumnError(ArgumentMessage, DataError):
    """A file lacks a required or requested column, or several columns could be it."""


def input_files(pairs: Path, corpus: Path | None = None) -> dict[str, Path]:
    """Name -> file that :func:`read_pair_files` reads; the names do not depend on the folder of the files."""
    if not pairs.is_dir():
        return {"pairs": pairs} | ({} if corpus is None else {"corpus": corpus})
    names = [CORPUS, QUERIES, *(f"{QRELS}/{path.name}" for path in sorted((pairs / QRELS).glob("*.tsv")))]
    return {name: pairs / name for name in names}


def _read_folder(folder: Path, split: Split | None) -> PairSet:
    raw = read_beir(folder)
    if split is not None and (raw.parts is None or split not in raw.parts.values()):
        raise DataError(f"{folder / QRELS}: expected {split.value}.tsv with judgements, for split {split.value!r}")
    builder = PairSetBuilder()
    row_of = {
        p.id: builder.add_passage(p.text, id=p.id, document=p.document, where=f"{folder / CORPUS}, passage {p.id!r}")
        for p in raw.passages
    }
    for query in raw.queries:
        if split is None or (raw.parts is not None and raw.parts[query.id] is split):
            row = builder.add_query(query.text, id=query.id, where=f"{folder / QUERIES}, query {query.id!r}")
            for passage, relevance in raw.qrels[query.id].items():
                if relevance > 0:
                    builder.add_pair(row, row_of[passage])
    return builder.build()


def _add_corpus(builder: PairSetBuilder, path: Path, wanted: CorpusColumns) -> None:
    empty = True
    if path.suffix.lower() == ".txt":
        for number, line in iter_lines(path):
            builder.add_passage(line.rstrip("\r\n"), where=f"{path}, line {number}")
            empty = False
    else:
        names = _names(wanted, path)
        for where, record in read_records(path):
            builder.add_passage(
                string_field(dict(record), names["text"], where),
                id=_id(record, names.get("id"), where),
                document=_document(record, names, wanted, where),
                where=where,
            )
            empty = False
    if empty:
        raise DataError(f"{path}: expected at least one passage, got none")


def _add_pairs(builder: PairSetBuilder, path: Path, wanted: PairColumns) -> None:
    names = _names(wanted, path)
    for where, record in read_records(path):
        query = builder.add_query(
            string_field(dict(record), names["query"], where),
            id=_id(record, names.get("query_id"), where),
            where=where,
        )
        document = _document(record, names, wanted, where)
        for text, positive_id in _positives(record, names, where):
            builder.add_pair(query, builder.add_passage(text, id=positive_id, document=document, where=where))


def _positives(record: Mapping[str, Any], names: Mapping[str, str], where: str) -> Iterable[tuple[str, str | None]]:
    name, id_name = names["positive"], names.get("positive_id")
    texts = record.get(name)
    if not isinstance(texts, list):
        return [(string_field(dict(record), name, where), _id(record, id_name, where))]
    if not texts:
        raise DataError(f"{where}: expected a text or a list of texts in {name!r}, got an empty list")
    ids = [None] * len(texts) if id_name is None else record.get(id_name)
    if not isinstance(ids, list) or len(ids) != len(texts):
        raise DataError(f"{where}: expected {len(texts)} ids in {id_name!r}, one for each text, got {shorten(ids)}")
    return [
        (string_field({name: text}, name, where), _id({"id": one}, None if id_name is None else "id", where))
        for text, one in zip(texts, ids, strict=True)
    ]


def _names(wanted: PairColumns | CorpusColumns, path: Path) -> dict[str, str]:
    """Columns to read: requested columns, and columns with a usual name that occur in a record."""
    columns, where = _columns(path)
    if where is None:
        return {}
    found = {}
    for field in fields(wanted):
        given = getattr(wanted, field.name)
        usual = _USUAL[type(wanted)][field.name]
        name = given if given is not None else next((name for name in usual if name in columns), None)
        if name is None and field.name not in _NEEDED:
            continue
        if name is None or name not in columns:
            missing = " or ".join(map(repr, usual if given is None else [given]))
            raise ColumnError(
                f"{_argument(wanted)}.{field.name}",
                problem=f"{where}: no column {missing}; it has {', '.join(map(repr, columns)) or 'no columns'}",
            )
        found[field.name] = name
    return found


def _columns(path: Path) -> tuple[dict[str, None], str | None]:
    """Names of all columns, in order, and the place of the first record; None without records."""
    columns: dict[str, None] = {}
    first = None
    for where, record in read_records(path):
        first = first or where
        columns |= dict.fromkeys(record)
        if path.suffix.lower() not in JSON_LINES:
            break  # all records have the same columns
    return columns, first


def _argument(wanted: PairColumns | CorpusColumns) -> str:
    return "columns" if isinstance(wanted, PairColumns) else "corpus_columns"


def _document(
    record: Mapping[str, Any], names: Mapping[str, str], wanted: PairColumns | CorpusColumns, where: str
) -> str | None:
    """Document of a record, or None."""
    name = names.get("document")
    found = _id(record, name, where, optional=True)
    if found is None and wanted.document is None:
        for other in _USUAL[type(wanted)]["document"]:
            if record.get(other) is not None:
                raise ColumnError(
                    f"{_argument(wanted)}.document",
                    problem=f"{where}: expected the document in {name!r}, as in other records, got it in {other!r}",
                )
    return found


def _id(record: Mapping[str, Any], name: str | None, where: str, *, optional: bool = False) -> str | None:
    """Id as a text; integers are converted."""
    if name is None:
        return None
    value = record.get(name)
    if value is None and optional:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise DataError(f"{where}: expected a text or an integer in {name!r}, got {shorten(value)}")
    return string_field({name: str(value)}, name, where)
