"""Parallel text for training without labels: sentence pairs, translation memories, message catalogues."""

from relkt.data.parallel.load import load_parallel
from relkt.data.parallel.text import Pair, ParallelText

__all__ = ["Pair", "ParallelText", "load_parallel"]
