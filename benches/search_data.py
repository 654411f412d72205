"""Rows and queries for compare_search.py: random, encoded from texts, or read from files."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SEED = 7
CENTRES, NOISE = 1000, 0.5
# Where a sentence ends; in Thai, at a space.
SENTENCE = re.compile(r"(?<=[.!?؟।])\s+|(?<=[。！？])|(?<=[\u0e00-\u0e7f])\s+(?=[\u0e00-\u0e7f])|\n+")
SHORTEST = 15


@dataclass(frozen=True)
class Source:
    """Source of rows and queries.

    Args:
        kind: "random", "clustered", "real" (encoded texts) or "given" (files).
        dim: Width of random rows.
        texts: XQuAD's folder for "real"; None for relkt-mini.
        model: Encoder for "real".
        embeddings: .npy file with the rows of "given".
        asked: .npy file with the queries of "given"; None takes some of the rows instead.
    """

    kind: str
    dim: int | None = None
    texts: Path | None = None
    model: str = "muse"
    embeddings: Path | None = None
    asked: Path | None = None


@dataclass(frozen=True)
class Data:
    """Unit-norm float32 rows and queries, in .npy files."""

    name: str
    rows: int
    dim: int
    queries: int
    passages_file: Path
    asked_file: Path


def prepare(source: Source, rows: int, queries: int, scratch: Path, cache: Path) -> Data:
    """Writes at most ``rows`` and ``queries`` to files in ``scratch``; ``cache`` is for embeddings of texts."""
    if source.kind == "real":
        passages, asked = encoded(source, queries, cache)
        name = f"real ({Path(source.model).name})"
    elif source.kind == "given":
        passages, asked = given(source, queries)
        name = str(source.embeddings and source.embeddings.stem)
    else:
        assert source.dim is not None
        passages, asked = drawn(source.kind, rows, source.dim, queries)
        name = source.kind
    if len(passages) > rows:
        passages = passages[np.random.default_rng(SEED).permutation(len(passages))[:rows]]
    files = scratch / "passages.npy", scratch / "asked.npy"
    for file, array in zip(files, (passages, asked[:queries]), strict=True):
        np.save(file, unit(array))
    return Data(name, len(passages), passages.shape[1], min(queries, len(asked)), *files)


def drawn(kind: str, rows: int, dim: int, queries: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws rows and queries independently ("random") or around 1,000 centres ("clustered")."""
    rng = np.random.default_rng(SEED)

    def draw(count: int) -> np.ndarray:
        noise = rng.standard_normal((count, dim), dtype=np.float32)
        if kind == "clustered":
            noise *= NOISE
            noise += centres[rng.integers(0, CENTRES, count)]
        return noise

    centres = rng.standard_normal((CENTRES, dim), dtype=np.float32)
    return draw(rows), draw(queries)


def given(source: Source, queries: int) -> tuple[np.ndarray, np.ndarray]:
    """Reads rows from a file, and queries from another file or from the same rows."""
    assert source.embeddings is not None
    passages = np.load(source.embeddings, mmap_mode="r")
    if source.asked is not None:
        return passages, np.load(source.asked)
    order = np.random.default_rng(SEED).permutation(len(passages))
    queries = min(queries, len(passages) // 2)
    return passages[np.sort(order[queries:])], passages[order[:queries]]


def unit(array: np.ndarray) -> np.ndarray:
    array = np.array(array, dtype=np.float32, order="C")
    array /= np.linalg.norm(array, axis=1, keepdims=True)
    return array


def encoded(source: Source, queries: int, cache: Path) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of sentences and questions as rows, and of other questions as queries; cached."""
    passages, asked = read_texts(source.texts, queries)
    content = json.dumps([source.model, passages, asked]).encode()
    stem = f"{Path(source.model).name}-{hashlib.sha256(content).hexdigest()[:16]}"
    files = {"passages": cache / f"{stem}-passages.npy", "asked": cache / f"{stem}-asked.npy"}
    if not all(file.exists() for file in files.values()):
        # Imported here: only a missing cache needs torch and an encoder.
        from relkt.encoders import encode_passages, encode_queries, load_encoder

        print(f"encoding {len(passages)} passages and {len(asked)} queries with {source.model}", flush=True)
        model = load_encoder(source.model, device="cpu")
        cache.mkdir(parents=True, exist_ok=True)
        save(files["passages"], encode_passages(model, passages))
        save(files["asked"], encode_queries(model, asked))
    return np.load(files["passages"]), np.load(files["asked"])


def save(file: Path, array: np.ndarray) -> None:
    """Saves an array; the file gets its name when it is complete."""
    part = file.with_suffix(f".{os.getpid()}.npy")
    np.save(part, array)
    part.replace(file)


def read_texts(folder: Path | None, queries: int) -> tuple[list[str], list[str]]:
    """Reads distinct passages (sentences of all contexts, and most questions) and queries (the other questions).

    The texts are from XQuAD in all its languages, or from relkt-mini.
    """
    from relkt.data import load_data

    if folder is None:
        data = load_data("relkt-mini")
        contexts = [passage.text for passage in data.passages]
    else:
        data = load_data("xquad", path=folder)
        languages = [load_data("xquad", path=folder, passage_language=code).passages for code in data.languages]
        contexts = [passage.text for passages in languages for passage in passages]
    sentences = [sentence.strip() for context in contexts for sentence in SENTENCE.split(context)]
    questions = list(dict.fromkeys(query.text for query in data.queries))
    random.Random(SEED).shuffle(questions)
    apart = min(queries, len(questions) // 2)
    asked = questions[:apart]
    kept_apart = set(asked)
    texts = dict.fromkeys([*(s for s in sentences if len(s) >= SHORTEST), *questions[apart:]])
    return [text for text in texts if text not in kept_apart], asked
