"""A tiny random encoder that sentence-transformers loads without relkt."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer, models, pre_tokenizers

import relkt

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


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    make_model().save(str(folder))
    return str(folder)


@pytest.fixture(scope="session")
def retriever(model_folder: str, tmp_path_factory: pytest.TempPathFactory) -> relkt.Retriever:
    """An index of 90 passages in two languages, opened from its file."""
    rng = random.Random(0)
    passages = [
        {
            "id": f"p{row}",
            "text": " ".join(rng.choices(WORDS, k=5)),
            "title": f"Title {row}" if row % 2 else None,
            "language": ("de", "en", None)[row % 3],
            "year": 2000 + row % 5,
        }
        for row in range(90)
    ]
    path = tmp_path_factory.mktemp("index") / "wiki.relkt"
    return relkt.Retriever.build(passages, path, encoder=model_folder, device="cpu")
