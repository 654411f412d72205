"""Passages with their texts, an index of their embeddings, and the encoder that belongs to both.

Nothing heavy is imported until it is used.
"""

from typing import TYPE_CHECKING

from relkt._lazy import lazy_attach
from relkt.retrieval.kinds import Storage, TextUnit
from relkt.retrieval.progress import IndexProgress

if TYPE_CHECKING:
    from relkt.retrieval.building import build_index, check_output
    from relkt.retrieval.passages import Fields, IndexedPassage, PassageStore, Value
    from relkt.retrieval.retriever import RetrievedPassage, Retriever, Where
    from relkt.retrieval.sources import Columns, Source, read_passages


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
    "Where",
    "build_index",
    "check_output",
    "read_passages",
]

__getattr__, __dir__ = lazy_attach(
    __name__,
    {
        "relkt.retrieval.building": ["build_index", "check_output"],
        "relkt.retrieval.passages": ["Fields", "IndexedPassage", "PassageStore", "Value"],
        "relkt.retrieval.retriever": ["RetrievedPassage", "Retriever", "Where"],
        "relkt.retrieval.sources": ["Columns", "Source", "read_passages"],
    },
)
