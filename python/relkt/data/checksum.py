"""Checksums of a data set."""

from __future__ import annotations

from collections.abc import Iterator

from relkt.data.types import RetrievalData
from relkt.storage import sha256_of


def data_checksum(data: RetrievalData) -> str:
    """SHA-256 of the passages, queries, splits and judgements, without the translations of passages."""
    return sha256_of(map(repr, _records(data)))


def translations_checksum(data: RetrievalData) -> str:
    """SHA-256 of the translations of passages."""
    return sha256_of(
        repr((language, passage, text))
        for language, texts in sorted(data.translations.items())
        for passage, text in sorted(texts.items())
    )


def _records(data: RetrievalData) -> Iterator[object]:
    for passage in data.passages:
        yield (passage.id, passage.text, passage.document)
    for query in data.queries:
        judged = sorted(data.qrels[query.id].items())
        yield (query.id, query.text, query.language, query.parallel, query.split.value, judged)
    if data.held_out:
        yield sorted((document, split.value) for document, split in data.held_out.items())
