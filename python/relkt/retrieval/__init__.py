"""Passages with their texts, an index of their embeddings, and the encoder that belongs to both.

Nothing heavy is imported until it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from relkt.retrieval.kinds import Storage, TextUnit
from relkt.retrieval.progress import IndexProgress

if TYPE_CHECKING:
    from relkt.retrieval.building import build_index, check_output
    from relkt.retrieval.passages import Fields, IndexedPassage, PassageStore, Value
    from relkt.retrieval.retriever import RetrievedPassage, Retriever, Where
    from relkt.retrieval.sources import Columns, Source, read_passages

_LAZY = {
    "Columns": "relkt.retrieval.sources",
    "Fields": "relkt.retrieval.passages",
    "IndexedPassage": "relkt.retrieval.passages",
    "PassageStore": "relkt.retrieval.passages",
    "RetrievedPassage": "relkt.retrieval.retriever",
    "Retriever": "relkt.retrieval.retriever",
    "Source": "relkt.retrieval.sources",
    "Value": "relkt.retrieval.passages",
    "Where": "relkt.retrieval.retriever",
    "build_index": "relkt.retrieval.building",
    "check_output": "relkt.retrieval.building",
    "read_passages": "relkt.retrieval.sources",
}

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


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'relkt.retrieval' has no attribute {name!r}")
