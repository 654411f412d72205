"""Embeddings in the plane, small data sets, and a report."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from relkt.data import Passage, Query, RetrievalData, Split
from relkt.evaluation import Report, evaluate_embeddings

Rows = NDArray[np.float32]


def unit(angle: float) -> list[float]:
    return [math.cos(math.radians(angle)), math.sin(math.radians(angle))]


def make_circle(*angles: float) -> Rows:
    """Unit vectors in the plane, by their angles in degrees."""
    return np.array([unit(a) for a in angles], dtype=np.float32)


def make_data_set(
    documents: list[str], positives: list[list[int]], languages: list[str] | None = None
) -> RetrievalData:
    passages = tuple(Passage(f"p{i}", f"text {i}", d) for i, d in enumerate(documents))
    languages = languages or ["en"] * len(positives)
    queries = tuple(Query(f"q{i}", f"question {i}", x, f"q{i}", Split.TEST) for i, x in enumerate(languages))
    qrels = {f"q{i}": {f"p{row}": 1 for row in rows} for i, rows in enumerate(positives)}
    return RetrievalData("toy", passages, queries, qrels)


def make_random_data(
    seed: int, queries: int = 40, passages: int = 60, documents: int = 25
) -> tuple[RetrievalData, Rows, Rows]:
    rng = np.random.default_rng(seed)
    names = [f"d{rng.integers(documents)}" for _ in range(passages)]
    positives = [sorted(rng.choice(passages, rng.integers(1, 4), replace=False).tolist()) for _ in range(queries)]
    languages = [("en", "de", "th")[i % 3] for i in range(queries)]
    data = make_data_set(names, positives, languages)
    # Small integers, so that many scores are equal.
    return (
        data,
        rng.integers(1, 4, (queries, 3)).astype(np.float32),
        rng.integers(1, 4, (passages, 3)).astype(np.float32),
    )


@pytest.fixture
def circle() -> Callable[..., Rows]:
    return make_circle


@pytest.fixture
def data_set() -> Callable[..., RetrievalData]:
    return make_data_set


@pytest.fixture
def random_data() -> Callable[..., tuple[RetrievalData, Rows, Rows]]:
    return make_random_data


@pytest.fixture
def report() -> Report:
    data, queries, passages = make_random_data(2)
    return evaluate_embeddings(queries, passages, data, split="test", trained_languages=["en", "de"], num_resamples=50)
