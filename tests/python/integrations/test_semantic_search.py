"""The replacement of semantic_search, compared with the original."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import util

import relkt
from relkt.integrations.semantic_search import semantic_search

RNG = np.random.default_rng(0)
QUERIES = RNG.normal(size=(13, 16)).astype(np.float32)
CORPUS = RNG.normal(size=(120, 16)).astype(np.float32) * RNG.uniform(0.1, 9, size=(120, 1)).astype(np.float32)


def assert_same(found: list[Any], expected: list[Any], tolerance: float = 1e-6) -> None:
    assert len(found) == len(expected)
    for hits, original in zip(found, expected, strict=True):
        assert [hit["corpus_id"] for hit in hits] == [hit["corpus_id"] for hit in original]
        assert [hit["score"] for hit in hits] == pytest.approx([hit["score"] for hit in original], abs=tolerance)
        assert all(type(hit["corpus_id"]) is int and type(hit["score"]) is float for hit in hits)
        assert all(list(hit) == ["corpus_id", "score"] for hit in hits)


@pytest.mark.parametrize("top_k", [1, 10, 500])
@pytest.mark.parametrize(
    "kind",
    [
        torch.from_numpy,
        np.asarray,
        lambda rows: list(torch.from_numpy(rows)),
        list,
        lambda rows: rows.astype(np.float64),
        lambda rows: torch.from_numpy(rows).requires_grad_(),
    ],
    ids=["tensor", "array", "tensors", "arrays", "float64", "gradient"],
)
def test_results_equal_the_original(kind: Any, top_k: int) -> None:
    expected = util.semantic_search(torch.from_numpy(QUERIES), torch.from_numpy(CORPUS), top_k=top_k)
    assert_same(semantic_search(kind(QUERIES), kind(CORPUS), top_k=top_k), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_rows(dtype: torch.dtype) -> None:
    queries, corpus = torch.from_numpy(QUERIES).to(dtype), torch.from_numpy(CORPUS).to(dtype)
    found = semantic_search(queries, corpus, top_k=4)
    assert_same(found, util.semantic_search(queries.double(), corpus.double(), top_k=4))


def test_a_single_query_chunk_sizes_and_cos_sim() -> None:
    assert_same(
        semantic_search(QUERIES[0], CORPUS, 2, 7, 5, util.cos_sim),
        util.semantic_search(QUERIES[0], CORPUS, 2, 7, 5, util.cos_sim),
    )


@pytest.mark.parametrize(("queries", "passages"), [(0, 5), (3, 0), (0, 0)])
def test_no_queries_or_no_passages(queries: int, passages: int) -> None:
    assert semantic_search(QUERIES[:queries], CORPUS[:passages]) == [[] for _ in range(queries)]


def test_an_index_as_the_corpus() -> None:
    index = relkt.Index(CORPUS, ids=[f"p{row}" for row in range(len(CORPUS))])
    assert relkt.semantic_search(QUERIES, index, top_k=3) == relkt.semantic_search(QUERIES, CORPUS, top_k=3)


def test_the_arguments_equal_the_original() -> None:
    found, expected = (inspect.signature(f).parameters for f in (semantic_search, util.semantic_search))
    assert list(found) == list(expected)
    defaults = {name: parameter.default for name, parameter in expected.items() if name != "score_function"}
    assert {name: parameter.default for name, parameter in found.items() if name != "score_function"} == defaults


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"score_function": util.dot_score}, ValueError, "score_function: expected .*cos_sim or None, got dot_score"),
        ({"top_k": 0}, ValueError, "top_k: expected an integer of at least 1, got 0"),
        ({"corpus_chunk_size": 2.5}, TypeError, "corpus_chunk_size: expected an integer"),
        ({"corpus_embeddings": torch.from_numpy(CORPUS).to_sparse()}, TypeError, "corpus_embeddings: .* dense tensor"),
        ({"corpus_embeddings": CORPUS.astype(np.int64)}, TypeError, "corpus_embeddings: .* got int64"),
        ({"corpus_embeddings": torch.zeros(2, 16).long()}, TypeError, "corpus_embeddings: .* got int64"),
        ({"corpus_embeddings": [QUERIES[0], QUERIES[0, :3]]}, ValueError, "corpus_embeddings: expected rows of one"),
        ({"corpus_embeddings": np.zeros((2, 16), np.float32)}, ValueError, "passages: .*row 0"),
    ],
)
def test_argument_errors(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        semantic_search(**{"query_embeddings": QUERIES, "corpus_embeddings": CORPUS, **arguments})
