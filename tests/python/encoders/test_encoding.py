"""Encoding of queries and passages with any model."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from relkt.encoders import MuseEncoder, encode_passages, encode_queries

TEXTS = ["the cat sat far", "a dog", "", "the bird flew far far away from the fish", "zebra", "a cat", "dog a"]


@pytest.fixture
def prompted(tiny_encoder: MuseEncoder) -> SentenceTransformer:
    return SentenceTransformer(modules=[tiny_encoder], prompts={"query": "the cat ", "document": "far "}, device="cpu")


@pytest.mark.parametrize("encode", [encode_queries, encode_passages])
def test_unit_rows_in_the_order_of_the_texts(tiny_model, encode):
    embeddings = encode(tiny_model, TEXTS, batch_size=3)
    assert embeddings.shape == (7, 6)
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, rtol=0, atol=1e-6)
    for text, row in zip(TEXTS, embeddings, strict=True):
        np.testing.assert_allclose(tiny_model.encode(text), row, rtol=0, atol=1e-6)


def test_order_of_the_texts_does_not_change_an_embedding(tiny_model):
    shuffled = TEXTS * 2
    random.Random(4).shuffle(shuffled)
    by_text = dict(zip(TEXTS, encode_queries(tiny_model, TEXTS * 2, batch_size=3)[:7], strict=True))
    for text, row in zip(shuffled, encode_queries(tiny_model, shuffled, batch_size=3), strict=True):
        np.testing.assert_allclose(by_text[text], row, rtol=0, atol=1e-6)


def test_repeats_are_bit_identical(tiny_model):
    np.testing.assert_array_equal(encode_queries(tiny_model, TEXTS), encode_queries(tiny_model, TEXTS))


def test_queries_and_passages_get_their_prompts(prompted):
    plain = SentenceTransformer(modules=[prompted[0]], device="cpu")
    np.testing.assert_array_equal(encode_queries(prompted, ["dog"]), encode_queries(plain, ["the cat dog"]))
    np.testing.assert_array_equal(encode_passages(prompted, ["dog"]), encode_passages(plain, ["far dog"]))
    for encode in (encode_queries, encode_passages):
        np.testing.assert_array_equal(encode(prompted, ["dog"], prompt="the "), encode(plain, ["the dog"]))
        np.testing.assert_array_equal(encode(prompted, ["dog"], prompt=""), encode(plain, ["dog"]))
        with pytest.raises(TypeError, match="prompt: expected a text or None, got 3"):
            encode(plain, ["dog"], prompt=3)


def test_progress_counts_every_text(tiny_model):
    counts: list[int] = []
    encode_queries(tiny_model, TEXTS, batch_size=3, progress=counts.append)
    assert counts == [3, 3, 1]


@pytest.mark.parametrize("training", [True, False])
def test_mode_is_restored(tiny_model, training):
    tiny_model.train(training)
    encode_queries(tiny_model, TEXTS)
    assert tiny_model.training is training
    assert tiny_model[0].training is training


def test_mode_is_restored_after_an_error(tiny_model):
    def fail(count: int) -> None:
        raise RuntimeError(f"stop after {count}")

    tiny_model.train()
    with pytest.raises(RuntimeError, match="stop after 7"):
        encode_queries(tiny_model, TEXTS, progress=fail)
    assert tiny_model.training


def test_dropout_is_off(tiny_encoder):
    model = SentenceTransformer(modules=[tiny_encoder, _Dropout()], device="cpu").train()
    np.testing.assert_array_equal(encode_queries(model, TEXTS), encode_queries(model, TEXTS))


class _Dropout(torch.nn.Module):
    def forward(self, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        dropped = torch.nn.functional.dropout(features["sentence_embedding"], 0.5, self.training)
        return {**features, "sentence_embedding": dropped}


def test_unit_rows_from_a_model_that_does_not_normalise(tiny_encoder):
    model = SentenceTransformer(modules=[tiny_encoder, _Scale()], device="cpu")
    np.testing.assert_allclose(np.linalg.norm(encode_queries(model, TEXTS), axis=1), 1, rtol=0, atol=1e-6)
    assert np.linalg.norm(model.encode("cat")) == pytest.approx(7, abs=1e-5)


class _Scale(torch.nn.Module):
    def forward(self, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {**features, "sentence_embedding": 7 * features["sentence_embedding"]}


def test_no_texts_give_no_rows(tiny_model):
    assert encode_queries(tiny_model, []).shape == (0, 6)


def test_truncated_dimensions(tiny_model):
    tiny_model.truncate_dim = 4
    embeddings = encode_queries(tiny_model, TEXTS)
    assert embeddings.shape == (7, 4)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, rtol=0, atol=1e-6)


def test_one_text_is_refused(tiny_model):
    with pytest.raises(TypeError, match="expected a sequence of texts, got one text"):
        encode_queries(tiny_model, "cat")


def test_an_element_that_is_not_a_text_is_named_with_its_row(tiny_model):
    with pytest.raises(TypeError, match="got int in row 2"):
        encode_queries(tiny_model, ["a", "b", 3])


def test_batch_size_below_one_is_refused(tiny_model):
    with pytest.raises(ValueError, match="batch_size: expected at least 1, got 0"):
        encode_queries(tiny_model, TEXTS, batch_size=0)


def test_an_embedding_that_is_not_finite_is_named_with_its_row(tiny_model):
    with torch.no_grad():
        tiny_model[0].network.embedding.weight[4] = torch.nan  # ▁cat
    with pytest.raises(ValueError, match="embedding of row 1 has the norm nan"):
        encode_queries(tiny_model, ["a dog", "a cat"])
