"""Passages with their texts, an index of their embeddings, and the encoder that belongs to both."""

from relkt.retrieval.building import IndexProgress, Storage, build_index
from relkt.retrieval.passages import Fields, IndexedPassage, PassageStore, Value
from relkt.retrieval.retriever import RetrievedPassage, Retriever
from relkt.retrieval.sources import Columns, Source, TextUnit, read_passages

__all__ = [
    "Columns",
    "Fields",
    "IndexProgress",
    "IndexedPassage",
    "PassageStore",
    "RetrievedPassage",
    "Retriever",
    "Source",
    "Storage",
    "TextUnit",
    "Value",
    "build_index",
    "read_passages",
]
