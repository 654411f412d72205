"""Checks records of the BEIR layout, from files or ``datasets``, and makes a data set of them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from relkt.data.parsing import shorten, string_field
from relkt.data.raw import RawData
from relkt.data.types import DataError, Passage, Query, Split

Record = tuple[str, dict[str, Any]]
"""The place of a record, which error messages name, and the record itself."""

_log = logging.getLogger(__name__)


class Judgement(NamedTuple):
    """One row of the qrels.

    Args:
        where: Place of the row, for errors.
        part: File or split of the row.
        query: Id of the query.
        passage: Id of the passage.
        score: Relevance, above 0 for a positive.
    """

    where: str
    part: str
    query: str
    passage: str
    score: int


def read_passages(records: Iterable[Record], source: str) -> list[Passage]:
    """Makes passages from records.

    Args:
        records: The records.
        source: Name of their file or part, for errors.

    Raises:
        DataError: If there are no records, a field is missing or not a text, or an id repeats.
    """
    passages: dict[str, Passage] = {}
    for where, record in _with_metadata(records):
        passage_id = string_field(record, "_id", where)
        if passage_id in passages:
            raise DataError(f"{where}: passage id {passage_id!r} appears twice")
        passages[passage_id] = Passage(
            id=passage_id,
            text=_text(record, where),
            document=string_field(record, "document", where, default=passage_id),
            language=string_field(record, "language", where, default="en"),
            title=string_field(record, "title", where, default=""),
        )
    if not passages:
        raise DataError(f"{source}: expected at least one passage, got none")
    return list(passages.values())


def read_queries(records: Iterable[Record]) -> list[Query]:
    """Makes queries from records; their split is not set yet.

    Raises:
        DataError: If a field is missing or not a text, or an id repeats.
    """
    queries: dict[str, Query] = {}
    for where, record in _with_metadata(records):
        query_id = string_field(record, "_id", where)
        if query_id in queries:
            raise DataError(f"{where}: query id {query_id!r} appears twice")
        queries[query_id] = Query(
            id=query_id,
            text=_text(record, where),
            language=string_field(record, "language", where, default="en"),
            parallel=string_field(record, "parallel", where, default=query_id),
        )
    return list(queries.values())


def put_together(
    name: str,
    passages: Sequence[Passage],
    queries: Sequence[Query],
    judgements: Iterable[Judgement],
    *,
    parts: Mapping[str, Split | None],
    source: str,
    corpus: str,
    questions: str,
) -> RawData:
    """Makes a data set of passages, queries and judgements; queries without a positive are left out, with a warning.

    Args:
        name: Name of the data set.
        passages: The passages.
        queries: The queries.
        judgements: The qrels.
        parts: Part of the qrels -> the split with the same name; None if no split has this name.
        source: Name of the qrels' folder or part, for messages.
        corpus: Name of the passages' file or part, for messages.
        questions: Name of the queries' file or part, for messages.

    Raises:
        DataError: If a judgement names an unknown query or passage, a query is judged in two parts, a pair is judged
            twice, or no query has a positive.
    """
    passage_ids = {p.id for p in passages}
    query_ids = {q.id for q in queries}
    qrels: dict[str, dict[str, int]] = {}
    part_of: dict[str, str] = {}
    for where, part, query, passage, score in judgements:
        if query not in query_ids:
            raise DataError(f"{where}: expected a query id in {questions}, got {query!r}")
        if passage not in passage_ids:
            raise DataError(f"{where}: expected a passage id in {corpus}, got {passage!r}")
        if part_of.setdefault(query, part) != part:
            raise DataError(f"{where}: query {query!r} is also judged in {part_of[query]}")
        judged = qrels.setdefault(query, {})
        if passage in judged:
            raise DataError(f"{where}: query {query!r} and passage {passage!r} are judged twice")
        judged[passage] = score
    splits = {part: split for part, split in parts.items() if split is not None}
    answered = {query for query, judged in qrels.items() if any(score > 0 for score in judged.values())}
    if not answered:
        raise DataError(f"{source}: expected at least one query with a score above 0, got none")
    if left_out := len(queries) - len(answered):
        _log.warning(
            "%s: %d of %d queries have no passage with a score above 0 in %s and are left out",
            source,
            left_out,
            len(queries),
            ", ".join(parts),
        )
    return RawData(
        name=name,
        passages=passages,
        queries=[q for q in queries if q.id in answered],
        qrels={query: judged for query, judged in qrels.items() if query in answered},
        parts={query: splits[part] for query, part in part_of.items()} if len(splits) == len(parts) else None,
        several_parts=len(parts) > 1,
    )


def _with_metadata(records: Iterable[Record]) -> Iterable[Record]:
    """Moves the entries of ``metadata`` into the record itself."""
    for where, record in records:
        metadata = record.pop("metadata", None) or {}
        if not isinstance(metadata, dict):
            raise DataError(f"{where}: expected an object in 'metadata', got {shorten(metadata)}")
        for field in ("document", "language", "parallel"):
            if field in metadata and record.setdefault(field, metadata[field]) != metadata[field]:
                raise DataError(
                    f"{where}: {field!r} is {shorten(record[field])}, but {shorten(metadata[field])} in 'metadata'"
                )
        yield where, record


def _text(record: dict[str, Any], where: str) -> str:
    text = string_field(record, "text", where)
    if not text.strip():
        raise DataError(f"{where}: expected a non-blank text in 'text', got {text!r}")
    return text
