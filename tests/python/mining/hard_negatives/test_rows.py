"""``mine_hard_negatives`` returns the rows of sentence-transformers, and more where sentence-transformers runs out."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import sentence_transformers
from datasets import Dataset
from hard_negative_cases import (
    CORPUS,
    FORMATS,
    PairScorer,
    assert_same,
    make_dataset,
    make_texts,
    peer_rows,
    relkt_rows,
)
from packaging.version import Version
from sentence_transformers import SentenceTransformer

from relkt.mining.hard_negatives import mine_hard_negatives

# Options with which sentence-transformers does not run out of these few passages.
OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "one": {"num_negatives": 1},
    "range_min": {"range_min": 4},
    "absolute_margin": {"absolute_margin": 0.3, "num_negatives": 6},
    "relative_margin": {"relative_margin": 0.4, "num_negatives": 6},
    "both margins": {"relative_margin": 0.35, "absolute_margin": 0.3, "num_negatives": 6, "range_min": 2},
    "max_score": {"max_score": 0.2, "num_negatives": 6},
    "window": {"max_score": 0.3, "min_score": 0.1, "num_negatives": 7},
    "margin and scores": {"max_score": 0.45, "min_score": -0.1, "relative_margin": 0.4, "num_negatives": 8},
    "impossible": {"max_score": -0.99, "num_negatives": 7},
    "range_max": {"range_max": 12, "relative_margin": 0.5},
    "range_max runs out": {"range_max": 6, "max_score": 0.4, "min_score": 0.2, "range_min": 1},
    "range_max beyond corpus": {"range_max": 500, "max_score": 0.3, "num_negatives": 5},
    "random": {"sampling_strategy": "random"},
    "random, margin": {"sampling_strategy": "random", "relative_margin": 0.3, "range_min": 3, "num_negatives": 6},
    "random, range_max": {"sampling_strategy": "random", "range_max": 9, "max_score": 0.4, "range_min": 1},
    "random, window": {"sampling_strategy": "random", "max_score": 0.1, "min_score": 0.05, "num_negatives": 7},
    "include_positives": {"include_positives": True, "num_negatives": 8},
    "include_positives, margin": {"include_positives": True, "num_negatives": 4, "absolute_margin": 0.1},
    "include_positives, all": {"include_positives": True, "num_negatives": 20, "range_max": 40},
    "prompt names": {"query_prompt_name": "other", "corpus_prompt_name": "other"},
    "prompts": {"query_prompt": "what is ", "corpus_prompt": "it is ", "query_prompt_name": "other"},
    "as_triplets": {"as_triplets": True},
    "not as_triplets": {"as_triplets": False},
    "margin": {"margin": 0.25, "num_negatives": 6},
    "names": {"anchor_column_name": "answer", "positive_column_name": "question"},
    "batches": {"batch_size": 5, "faiss_batch_size": 4, "range_max": 10},
    "batches inside": {"faiss_batch_size": 4},
}


def drawn(function: Callable[..., Dataset], *args: Any, **kwargs: Any) -> Dataset:
    random.seed(5)
    return function(*args, **kwargs)


@pytest.mark.slow
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("output_format", FORMATS)
def test_rows_are_those_of_sentence_transformers(
    model: SentenceTransformer, output_format: str, options: dict[str, Any]
) -> None:
    for kind, corpus, output_scores in (("pairs", CORPUS, True), ("several", None, False), ("several", CORPUS, True)):
        call = {"output_format": output_format, "output_scores": output_scores, "corpus": corpus, **options}
        expected = drawn(peer_rows, make_dataset(kind), model, **call)
        assert_same(drawn(relkt_rows, make_dataset(kind), model, **call), expected)


RESCORED: dict[str, dict[str, Any]] = {
    "no condition": {},
    "max_score": {"max_score": 0.4},
    "min_score": {"min_score": 0.2},
    "margins": {"absolute_margin": 0.1, "relative_margin": 0.2, "num_negatives": 2},
    "range": {"range_min": 2, "range_max": 10, "max_score": 0.8},
    "random": {"sampling_strategy": "random", "relative_margin": 0.1},
    "include_positives": {"include_positives": True, "min_score": -0.9, "num_negatives": 6},
}


@pytest.mark.slow
@pytest.mark.parametrize("options", RESCORED.values(), ids=RESCORED)
@pytest.mark.parametrize("output_format", FORMATS)
def test_rescored_rows_are_those_of_sentence_transformers(
    model: SentenceTransformer, output_format: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relkt.mining.hard_negatives.selection._BLOCK_RESCORED", 50)  # several blocks
    for kind, output_scores in (("pairs", False), ("several", True)):
        call = {"output_format": output_format, "output_scores": output_scores, "corpus": CORPUS, **options}
        expected = drawn(peer_rows, make_dataset(kind), model, cross_encoder=PairScorer(), **call)
        assert_same(drawn(relkt_rows, make_dataset(kind), model, cross_encoder=PairScorer(), **call), expected)


def reference(
    dataset: Dataset,
    corpus: list[str],
    model: SentenceTransformer,
    num_negatives: int,
    range_min: int,
    allowed: Callable[[float, float], bool],
) -> dict[str, list[str]]:
    """The definition on the full matrix of scores: ``allowed`` takes a score and the lowest positive score."""
    passages = list(dict.fromkeys(corpus + list(dataset["answer"])))
    embeddings = model.encode_document(passages, normalize_embeddings=True).astype(np.float64)
    negatives = {}
    for query in dict.fromkeys(dataset["question"]):
        positives = {a for q, a in zip(dataset["question"], dataset["answer"], strict=True) if q == query}
        scores = embeddings @ model.encode_query([query], normalize_embeddings=True)[0].astype(np.float64)
        lowest = min(scores[passages.index(p)] for p in positives)
        valid = [i for i in np.argsort(-scores) if passages[i] not in positives and allowed(scores[i], lowest)]
        negatives[query] = [passages[i] for i in valid[range_min : range_min + num_negatives]]
    return negatives


def mined(dataset: Dataset) -> dict[str, list[str]]:
    """Negatives of each anchor of a labeled pair data set."""
    negatives: dict[str, list[str]] = {anchor: [] for anchor in dataset["question"]}
    for row in dataset:
        if not row["label"]:
            negatives[row["question"]].append(row["answer"])
    return negatives


STRICT: dict[str, tuple[dict[str, Any], Callable[[float, float], bool]]] = {
    "relative_margin": ({"relative_margin": 0.8}, lambda s, p: s <= p - abs(p) * 0.8),
    "absolute_margin": ({"absolute_margin": 0.7}, lambda s, p: s <= p - 0.7),
    "max_score": ({"max_score": 0.0}, lambda s, _: s <= 0.0),
    "window": ({"max_score": 0.05, "min_score": -0.05}, lambda s, _: -0.05 <= s <= 0.05),
    "range_min": ({"max_score": 0.02, "range_min": 5}, lambda s, _: s <= 0.02),
    "all": (
        {"max_score": 0.1, "min_score": -0.5, "relative_margin": 0.75, "absolute_margin": 0.5, "range_min": 2},
        lambda s, p: -0.5 <= s <= min(0.1, p - 0.75 * abs(p), p - 0.5),
    ),
}


@pytest.mark.parametrize(("options", "allowed"), STRICT.values(), ids=STRICT)
def test_no_query_runs_out_while_the_corpus_has_valid_passages(
    model: SentenceTransformer, options: dict[str, Any], allowed: Callable[[float, float], bool]
) -> None:
    dataset, corpus = make_dataset("several"), make_texts(150, 4)
    call = {"num_negatives": 2, "corpus": corpus, "output_format": "labeled-pair", **options}
    got = mined(relkt_rows(dataset, model, **call))
    assert got == reference(dataset, corpus, model, 2, options.get("range_min", 0), allowed)


@pytest.mark.parametrize("options", [options for options, _ in STRICT.values()], ids=STRICT)
def test_more_is_found_than_by_sentence_transformers(model: SentenceTransformer, options: dict[str, Any]) -> None:
    """sentence-transformers finds the first of the same negatives, and then runs out of candidates."""
    dataset = make_dataset("several")
    call = {"num_negatives": 2, "corpus": make_texts(150, 4), "output_format": "labeled-pair", **options}
    got, filtered = mined(relkt_rows(dataset, model, **call)), mined(peer_rows(dataset, model, **call))
    assert all(got[query][: len(found)] == found for query, found in filtered.items())
    assert sum(map(len, filtered.values())) < sum(map(len, got.values()))


def test_a_sample_with_too_few_options_is_completed_with_the_best_valid_passages(model: SentenceTransformer) -> None:
    dataset, corpus = make_dataset(), make_texts(150, 4)
    call = {"corpus": corpus, "max_score": 0.3, "num_negatives": 2, "output_format": "labeled-pair"}
    got = mined(drawn(relkt_rows, dataset, model, sampling_strategy="random", **call))
    best = mined(relkt_rows(dataset, model, **call))
    assert {len(negatives) for negatives in got.values()} == {2}
    assert got != best
    filtered = mined(drawn(peer_rows, dataset, model, sampling_strategy="random", **call))
    full = [query for query, negatives in filtered.items() if len(negatives) == 2]
    assert 3 < len(full) < len(filtered) - 3
    assert all(got[query] == (filtered[query] if query in full else best[query]) for query in got)


def test_seed_is_independent_of_the_global_state(model: SentenceTransformer) -> None:
    call = {"sampling_strategy": "random", "num_negatives": 2, "max_score": 0.5, "corpus": CORPUS}
    random.seed(1)
    first = relkt_rows(make_dataset(), model, seed=3, **call)
    untouched = random.random()
    assert_same(relkt_rows(make_dataset(), model, seed=3, **call), first)
    assert list(relkt_rows(make_dataset(), model, seed=4, **call)["negative"]) != list(first["negative"])
    random.seed(1)
    assert random.random() == untouched


def test_results_do_not_depend_on_blocks_or_threads(
    model: SentenceTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[dict[str, Any]] = [
        {"relative_margin": 0.5},
        {"range_max": 12, "max_score": 0.3},
        {"sampling_strategy": "random", "max_score": 0.3, "seed": 0},
    ]
    expected = [relkt_rows(make_dataset("several"), model, output_scores=True, corpus=CORPUS, **call) for call in calls]
    monkeypatch.setattr("relkt.mining.hard_negatives.selection._BLOCK_CANDIDATES", 100)
    for call, whole in zip(calls, expected, strict=True):
        call |= {"faiss_batch_size": 7, "threads": 2, "output_scores": True, "corpus": CORPUS}
        got = relkt_rows(make_dataset("several"), model, **call)
        assert [got[name][:] for name in got.column_names] == [whole[name][:] for name in whole.column_names]


def test_use_faiss_changes_nothing_and_needs_no_faiss(
    model: SentenceTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    assert_same(relkt_rows(make_dataset(), model, use_faiss=True), relkt_rows(make_dataset(), model))


def test_the_signature_is_that_of_sentence_transformers() -> None:
    peer = inspect.signature(sentence_transformers.util.mine_hard_negatives).parameters
    if Version(sentence_transformers.__version__) < Version("6"):
        pytest.skip(f"compares with version 6, not {sentence_transformers.__version__}, of sentence-transformers")
    own = inspect.signature(mine_hard_negatives).parameters
    assert [(p.name, p.default) for p in own.values() if p.kind is not p.KEYWORD_ONLY] == [
        (p.name, p.default) for p in peer.values()
    ]
