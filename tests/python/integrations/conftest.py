"""A tiny random encoder that sentence-transformers loads without relkt."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer, models, pre_tokenizers

WORDS = tuple(f"w{number}" for number in range(60))


def make_model(seed: int = 0, similarity: str = "cosine") -> SentenceTransformer:
    vocabulary = {word: row for row, word in enumerate(("[UNK]", *WORDS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    weights = torch.randn(len(vocabulary), 12, generator=torch.Generator().manual_seed(seed))
    embedding = StaticEmbedding(tokenizer, embedding_weights=weights.numpy())
    return SentenceTransformer(modules=[embedding], device="cpu", similarity_fn_name=similarity)


@pytest.fixture
def model_of() -> Callable[..., SentenceTransformer]:
    return make_model


@pytest.fixture
def model() -> SentenceTransformer:
    return make_model()
