"""Models and data sets for the tests of ``mine_hard_negatives``."""

from __future__ import annotations

import hashlib
import random
import zlib
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
import sentence_transformers
import torch
from datasets import Dataset
from packaging.version import Version
from sentence_transformers.base.modules import InputModule

from relkt.mining.hard_negatives import mine_hard_negatives

FORMATS = ("triplet", "n-tuple", "labeled-pair", "labeled-list")


DIM = 24


def peer_rows(*args: Any, **kwargs: Any) -> Dataset:
    if Version(sentence_transformers.__version__) < Version("6"):
        pytest.skip(f"compares with version 6, not {sentence_transformers.__version__}, of sentence-transformers")
    return sentence_transformers.util.mine_hard_negatives(*args, verbose=False, **kwargs)


def relkt_rows(*args: Any, **kwargs: Any) -> Dataset:
    return mine_hard_negatives(*args, **{"verbose": False, **kwargs})


@cache
def word_vector(word: str) -> np.ndarray:
    return np.random.default_rng(zlib.crc32(word.encode())).normal(size=DIM)


class BagOfWords(InputModule):
    """The sum of a fixed random vector for each word; that of "nothing" is zero."""

    modalities = ["text"]  # noqa: RUF012

    def preprocess(self, inputs: Sequence[str], prompt: str | None = None, **kwargs: Any) -> dict[str, torch.Tensor]:
        del kwargs
        vectors = [
            sum((word_vector(w) for w in ((prompt or "") + text).split() if w != "nothing"), np.zeros(DIM))
            for text in inputs
        ]
        return {"vectors": torch.tensor(np.array(vectors), dtype=torch.float32)}

    def tokenize(self, texts: Sequence[str], **kwargs: Any) -> dict[str, torch.Tensor]:
        return self.preprocess(texts, **kwargs)

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        del kwargs
        features["sentence_embedding"] = features["vectors"]
        return features

    def get_embedding_dimension(self) -> int:
        return DIM

    def get_sentence_embedding_dimension(self) -> int:
        return DIM

    def save(self, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError


class PairScorer:
    """A cross-encoder whose scores are a hash of the pair, from -1 to 1."""

    def __init__(self) -> None:
        self.scored: list[tuple[str, str]] = []
        self.pools: list[Any] = []

    def score(self, query: str, passage: str) -> float:
        return int.from_bytes(hashlib.sha256(f"{query}|{passage}".encode()).digest()[:3], "big") / 2**23 - 1

    def predict(self, pairs: list[tuple[str, str]], pool: Any = None, **kwargs: Any) -> torch.Tensor:
        assert kwargs["convert_to_tensor"]
        self.scored += pairs
        self.pools.append(pool)
        return torch.tensor([self.score(*pair) for pair in pairs], dtype=torch.float32)

    def start_multi_process_pool(self, target_devices: list[str] | None = None) -> Any:
        return {"cross-encoder": target_devices}

    def stop_multi_process_pool(self, pool: Any) -> None:
        self.pools.append(("stopped", pool))


def make_texts(count: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    words = [f"w{i}" for i in range(30)]
    return [" ".join(sorted(rng.sample(words, 4))) + f" {seed}-{i}" for i in range(count)]


def make_dataset(kind: str = "pairs", count: int = 30) -> Dataset:
    anchors, positives = make_texts(count, 1), make_texts(count, 2)
    # A positive shares words with its anchor, so that margins leave some negatives.
    positives = [f"{p} {a} {a}" for a, p in zip(anchors, positives, strict=True)]
    if kind == "several":  # positives of an anchor in separate rows, a repeated pair, a shared positive
        order = [*range(count), 3, 7, 3, 11]
        passages = [*range(count), 5, 8, 9, 11]
        anchors, positives = [anchors[i] for i in order], [positives[i] for i in passages]
    return Dataset.from_dict({"question": anchors, "answer": positives})


CORPUS = make_texts(32, 3)


def assert_same(got: Dataset, expected: Dataset) -> None:
    assert got.column_names == expected.column_names
    assert len(got) == len(expected)
    if len(expected):
        assert got.features == expected.features
        assert got.data.schema == expected.data.schema
    for name in expected.column_names:
        a, b = list(got[name]), list(expected[name])
        if name in ("scores", "score"):
            assert list(map(np.size, a)) == list(map(np.size, b))
            np.testing.assert_allclose(np.hstack([*a, 0]), np.hstack([*b, 0]), atol=2e-6, rtol=0)
        else:
            assert a == b


class PlaneModel:
    """Embeds each text at a given angle in degrees; records its calls."""

    similarity_fn_name = "cosine"

    def __init__(self, angles: dict[str, float], fails: bool = False) -> None:
        self.angles, self.fails = angles, fails
        self.calls: list[Any] = []

    def encode_query(self, texts: list[str], pool: Any = None, **kwargs: Any) -> np.ndarray:
        assert kwargs["normalize_embeddings"]
        assert kwargs["convert_to_numpy"]
        self.calls.append(("encode", texts, pool))
        if self.fails:
            raise RuntimeError("no such text")
        radians = np.deg2rad([self.angles[text] for text in texts])
        return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)

    encode_document = encode_query

    def start_multi_process_pool(self, target_devices: list[str] | None = None) -> Any:
        self.calls.append(("start", target_devices))
        return "pool"

    def stop_multi_process_pool(self, pool: Any) -> None:
        self.calls.append(("stop", pool))


PLANE = {"q": 0.0, "r": 90.0, "p": 10.0, "s": 100.0}


PLANE_PAIRS = Dataset.from_dict({"a": ["q", "r"], "b": ["p", "s"]})
