"""Embeddings for ``mine_hard_negatives``: the cache, processes, and checks."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from datasets import Dataset
from hard_negative_cases import (
    PLANE,
    PLANE_PAIRS,
    BagOfWords,
    PairScorer,
    PlaneModel,
    assert_same,
    make_dataset,
    peer_rows,
    relkt_rows,
)
from sentence_transformers import SentenceTransformer


@pytest.mark.parametrize(("asked", "devices"), [(True, None), (["cpu", "cpu"], ["cpu", "cpu"])])
def test_processes_are_started_once_and_stopped(asked: Any, devices: Any) -> None:
    plane, scorer = PlaneModel(PLANE), PairScorer()
    relkt_rows(PLANE_PAIRS, plane, num_negatives=1, use_multi_process=asked, cross_encoder=scorer, max_score=0.99)
    expected = [("start", devices), ("encode", ["p", "s"], "pool"), ("encode", ["q", "r"], "pool"), ("stop", "pool")]
    assert plane.calls == expected
    assert scorer.pools == [{"cross-encoder": devices}, ("stopped", {"cross-encoder": devices})]


def test_processes_are_stopped_after_an_error() -> None:
    plane = PlaneModel(PLANE, fails=True)
    with pytest.raises(RuntimeError, match="no such text"):
        relkt_rows(PLANE_PAIRS, plane, use_multi_process=True)
    assert plane.calls[-1] == ("stop", "pool")


CACHE_PROMPTS = [{}, {"query_prompt": 'it\'s "so" ', "corpus_prompt_name": "other"}]


@pytest.mark.parametrize("prompts", CACHE_PROMPTS)
def test_the_cache_is_shared_with_sentence_transformers(
    model: SentenceTransformer, tmp_path: Path, prompts: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = Dataset.from_dict({"q": ["one 'quoted'", 'two "quoted"', "ร้าน\n\t"], "p": ["é\u200b", "b\\", "c"]})
    call: dict[str, Any] = {"num_negatives": 1, "output_scores": True, **prompts}
    expected = peer_rows(dataset, model, cache_folder=str(tmp_path / "peer_rows"), **call)
    first = relkt_rows(dataset, model, cache_folder=tmp_path / "new" / "relkt_rows", **call)
    names = sorted(file.name for file in (tmp_path / "peer_rows").iterdir())
    assert sorted(file.name for file in (tmp_path / "new" / "relkt_rows").iterdir()) == names
    assert len(names) == 2
    assert_same(first, expected)

    monkeypatch.setattr(BagOfWords, "forward", None)  # nothing is encoded again
    for folder in ("peer_rows", "new/relkt_rows"):
        assert_same(relkt_rows(dataset, model, cache_folder=str(tmp_path / folder), **call), first)
    assert_same(peer_rows(dataset, model, cache_folder=str(tmp_path / "new/relkt_rows"), **call), first)


def test_a_hash_computed_in_blocks_equals_the_hash_of_the_whole() -> None:
    from relkt.mining.hard_negatives.embeddings import _Texts as Texts

    for count in (1, 2, 3, 4, 7):
        listed = [f"text '{i}'" for i in range(count)]
        whole = hashlib.sha256(repr(("base", None, "p", listed)).encode()).hexdigest()
        assert Texts("query", "queries", listed, None, "p").digest("base", block=3) == whole


def test_a_damaged_cache_is_an_error(model: SentenceTransformer, tmp_path: Path) -> None:
    relkt_rows(make_dataset(), model, cache_folder=tmp_path)
    file = next(tmp_path.glob("corpus_embeddings_*.npy"))
    np.save(file, np.load(file)[:-1])
    with pytest.raises(ValueError, match=f"cache_folder: .*{file.name}: expected an array of shape \\(30, d\\)"):
        relkt_rows(make_dataset(), model, cache_folder=tmp_path)


def test_an_interrupted_save_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from relkt.mining.hard_negatives import embeddings as texts

    def fails(stream: Any, _: Any) -> None:
        stream.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(texts.np, "save", fails)
    with pytest.raises(OSError, match="disk full"):
        texts._save(
            tmp_path / "query_embeddings_0.npy", texts._Texts("query", "queries", ["q"], None, None), np.zeros(3), False
        )
    assert list(tmp_path.iterdir()) == []


def test_a_text_with_an_embedding_of_zeros_scores_zero() -> None:
    dataset = Dataset.from_dict({"q": ["w1 w2", "nothing"], "p": ["w1", "w2 w3"]})
    plain = SentenceTransformer(modules=[BagOfWords()], device="cpu")
    call = {"corpus": ["nothing", "w9 w8"], "num_negatives": 3, "output_format": "labeled-pair", "output_scores": True}
    got = relkt_rows(dataset, plain, **call)
    scores = {(row["q"], row["p"]): row["score"] for row in got}
    assert scores["w1 w2", "nothing"] == 0
    assert all(score == 0 for (query, _), score in scores.items() if query == "nothing")
    assert len(scores) == 8


def test_half_precision_embeddings() -> None:
    class Half(PlaneModel):
        def encode_query(self, texts: list[str], **kwargs: Any) -> np.ndarray:
            return super().encode_query(texts, **kwargs).astype(np.float16)

        encode_document = encode_query

    assert_same(
        relkt_rows(PLANE_PAIRS, Half(PLANE), num_negatives=1),
        relkt_rows(PLANE_PAIRS, PlaneModel(PLANE), num_negatives=1),
    )


@pytest.mark.parametrize("shape", [(2,), (3, 2), None])
def test_embeddings_of_the_model_are_checked(shape: tuple[int, ...] | None) -> None:
    plane = PlaneModel(PLANE)
    plane.encode_document = Mock(return_value=None if shape is None else np.ones(shape, np.float32))
    with pytest.raises(ValueError, match=r"model: embeddings of the passages: expected an array of shape \(2, d\)"):
        relkt_rows(PLANE_PAIRS, plane)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_the_cache_holds_finite_values_only(bad: float, tmp_path: Path) -> None:
    plane, sane = PlaneModel(PLANE), PlaneModel(PLANE)
    for model in (plane, sane):
        model.model_card_data = SimpleNamespace(base_model="plane")
    plane.encode_query = Mock(return_value=np.array([[1, 0], [0, bad]], np.float32))
    with pytest.raises(ValueError, match=r"model: embeddings of the queries: expected finite values, .* in row 1"):
        relkt_rows(PLANE_PAIRS, plane, cache_folder=tmp_path)
    assert [file.name.split("_")[0] for file in tmp_path.iterdir()] == ["corpus"]
    assert len(relkt_rows(PLANE_PAIRS, sane, num_negatives=1, cache_folder=tmp_path)) == 2
    for file in tmp_path.iterdir():
        np.save(file, np.array([[1, 0], [0, bad]], np.float32))
    with pytest.raises(ValueError, match=r"cache_folder: .*embeddings_.*\.npy: expected finite values"):
        relkt_rows(PLANE_PAIRS, sane, cache_folder=tmp_path)


def test_widths_of_queries_and_passages_must_agree() -> None:
    plane = PlaneModel(PLANE)
    plane.encode_document = Mock(return_value=np.ones((2, 3), np.float32))
    with pytest.raises(ValueError, match="embeddings of one width, got 2 for queries and 3 for passages"):
        relkt_rows(PLANE_PAIRS, plane)
