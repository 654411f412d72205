"""Data sets: types, readers and splits."""

from relkt.data.beir import save_beir
from relkt.data.hub_datasets import from_datasets, to_datasets
from relkt.data.load import DatasetName, load_data
from relkt.data.splits import SplitBy
from relkt.data.types import (
    Candidates,
    DataError,
    Level,
    Passage,
    Query,
    RetrievalData,
    Split,
    parse_member,
    sort_languages,
)

__all__ = [
    "Candidates",
    "DataError",
    "DatasetName",
    "Level",
    "Passage",
    "Query",
    "RetrievalData",
    "Split",
    "SplitBy",
    "from_datasets",
    "load_data",
    "parse_member",
    "save_beir",
    "sort_languages",
    "to_datasets",
]
