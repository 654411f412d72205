"""A few passages, as a list and as a file, and an encoder that embeds a text by its words."""

import hashlib
import json

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import InputModule

from relkt import Retriever

DIM = 32


class WordEncoder(InputModule):
    """The sum of a random vector for each word; raises an error at the text ``fail_at``."""

    save_in_root = True

    def __init__(self, salt=""):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.salt, self.fail_at, self.seen = salt, None, []

    def preprocess(self, texts, prompt=None, **_):
        texts = [(prompt or "") + text for text in texts]
        if self.fail_at in texts:
            raise KeyboardInterrupt
        self.seen += texts
        return {"vectors": torch.tensor(np.array([self._vector(text) for text in texts]))}

    tokenize = preprocess

    def forward(self, features):
        features["sentence_embedding"] = features["vectors"] * self.weight
        return features

    def get_embedding_dimension(self):
        return DIM

    get_sentence_embedding_dimension = get_embedding_dimension

    def get_config_dict(self):
        return {"salt": self.salt}

    def save(self, *_, **__):
        raise NotImplementedError

    def _vector(self, text):
        total = np.zeros(DIM, dtype=np.float32)
        for word in text.lower().replace(".", "").replace("?", "").split():
            seed = int.from_bytes(hashlib.sha256((self.salt + word).encode()).digest()[:4], "little")
            total += np.random.default_rng(seed).standard_normal(DIM, dtype=np.float32)
        return total


PASSAGES = [
    {
        "id": "tides",
        "text": "The moon causes tides.",
        "title": "Sea",
        "document": "sea",
        "language": "en",
        "year": 2020,
    },
    {"id": "salt", "text": "The sea is salt.", "title": "Sea", "document": "sea", "language": "en", "year": 2021},
    {
        "id": "eis",
        "text": "Eis schwimmt auf Wasser.",
        "title": "Eis",
        "document": "ice",
        "language": "de",
        "year": 2021,
    },
    {"id": "bread", "text": "Bread needs flour.", "title": None, "document": "food", "language": "en", "year": None},
]


@pytest.fixture
def words():
    return WordEncoder()


@pytest.fixture
def encoder(words):
    return SentenceTransformer(modules=[words], device="cpu", similarity_fn_name="cosine")


@pytest.fixture
def encoder_of():
    def make(salt):
        return SentenceTransformer(modules=[WordEncoder(salt)], device="cpu", similarity_fn_name="cosine")

    return make


@pytest.fixture
def passages():
    return [dict(passage) for passage in PASSAGES]


@pytest.fixture
def json_lines(tmp_path, passages):
    path = tmp_path / "passages.jsonl"
    path.write_text("".join(json.dumps(p, ensure_ascii=False) + "\n" for p in passages), encoding="utf-8")
    return path


@pytest.fixture
def built(passages, encoder, tmp_path):
    return Retriever.build(passages, tmp_path / "w.relkt", encoder=encoder, encoder_name="words")
