"""Checksums of a data set."""

from __future__ import annotations

import hashlib

from relkt.data.types import RetrievalData


def data_checksum(data: RetrievalData) -> str:
    """SHA-256 of the passages, queries, splits and judgements, without the translations of passages."""
    digest = hashlib.sha256()
    for passage in data.passages:
        digest.update(repr((passage.id, passage.text, passage.document)).encode())
    for query in data.queries:
        judged = sorted(data.qrels[query.id].items())
        digest.update(repr((query.id, query.text, query.language, query.parallel, query.split.value, judged)).encode())
    if data.held_out:
        digest.update(repr(sorted((document, split.value) for document, split in data.held_out.items())).encode())
    return digest.hexdigest()


def translations_checksum(data: RetrievalData) -> str:
    """SHA-256 of the translations of passages."""
    digest = hashlib.sha256()
    for language, texts in sorted(data.translations.items()):
        for passage, text in sorted(texts.items()):
            digest.update(repr((language, passage, text)).encode())
    return digest.hexdigest()
