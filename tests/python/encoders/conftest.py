"""Encoders small enough to train in a test, and the published mUSE."""

from __future__ import annotations

import pytest
import torch
from sentence_transformers import SentenceTransformer

from relkt.encoders import MuseEncoder, load_encoder
from relkt.encoders.muse_network import MuseConfig
from relkt.encoders.muse_tokenizer import unigram_tokenizer

WORDS = ["cat", "dog", "bird", "fish", "the", "sat", "ran", "flew", "swam", "far"]
TINY = MuseConfig(vocab_size=40, embedding_dim=12, ngram_dim=8, hidden_dim=10, output_dim=6)


def make_tiny_encoder(seed: int = 0) -> MuseEncoder:
    letters = [(letter, -6.0) for letter in "abcdefghijklmnopqrstuvwxyz"]
    pieces = [
        ("<unk>", 0.0),
        ("<s>", 0.0),
        ("</s>", 0.0),
        ("▁", -3.0),
        *((f"▁{word}", -2.0) for word in WORDS),
        *letters,
    ]
    encoder = MuseEncoder(unigram_tokenizer(pieces), TINY)
    torch.manual_seed(seed)
    encoder.network.reset_parameters()
    return encoder


@pytest.fixture
def tiny_encoder() -> MuseEncoder:
    return make_tiny_encoder()


@pytest.fixture
def tiny_model() -> SentenceTransformer:
    return SentenceTransformer(modules=[make_tiny_encoder()], device="cpu", similarity_fn_name="cosine")


@pytest.fixture(scope="session")
def muse() -> SentenceTransformer:
    return load_encoder("muse", device="cpu")
