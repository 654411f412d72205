"""Embeddings of anchors and passages, cached in the files that sentence-transformers uses."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from relkt.arrays import Embeddings
from relkt.mining.hard_negatives.pairs import Pairs
from relkt.storage import atomic_file


class _Poolable(Protocol):
    def start_multi_process_pool(self, target_devices: list[str] | None = None) -> Any: ...
    def stop_multi_process_pool(self, pool: Any) -> Any: ...


@contextmanager
def pool_of(model: _Poolable, use_multi_process: list[str] | bool) -> Iterator[Any]:
    """A pool of processes for the duration of the context, or None without ``use_multi_process``."""
    if not use_multi_process:
        yield None
        return
    pool = model.start_multi_process_pool(
        target_devices=None if isinstance(use_multi_process, bool) else use_multi_process
    )
    try:
        yield pool
    finally:
        model.stop_multi_process_pool(pool)


@dataclass(frozen=True)
class Encoding:
    """Settings of the encoder: arguments of ``mine_hard_negatives``."""

    query_prompt_name: str | None
    query_prompt: str | None
    corpus_prompt_name: str | None
    corpus_prompt: str | None
    batch_size: int
    use_multi_process: list[str] | bool
    cache_folder: str | os.PathLike[str] | None
    verbose: bool


def embed(model: Any, pairs: Pairs, encoding: Encoding) -> tuple[Embeddings, Embeddings]:
    """Embeds queries and corpus, or loads their embeddings from the cache.

    Cache files have the names that sentence-transformers 6 uses, so both libraries share them.

    Returns:
        (q, d) and (n, d) float32, or float16 if the model returns float16 for both.

    Raises:
        ValueError: If a cache file or the model's output does not have one row for each text or is not finite, the
            model has no prompt of a given name, or the embeddings of queries and corpus differ in width.
        OSError: If the cache cannot be read or written.
    """
    _check_prompt_names(model, encoding)
    queries = _Texts("query", "queries", pairs.queries.to_pylist(), encoding.query_prompt, encoding.query_prompt_name)
    corpus = _Texts("corpus", "passages", pairs.corpus.to_pylist(), encoding.corpus_prompt, encoding.corpus_prompt_name)
    files: dict[str, Path | None] = {"query": None, "corpus": None}
    if encoding.cache_folder:
        folder = Path(encoding.cache_folder)
        folder.mkdir(parents=True, exist_ok=True)
        base_model = model.model_card_data.base_model or ""
        for texts in (queries, corpus):
            files[texts.kind] = folder / f"{texts.kind}_embeddings_{texts.digest(base_model)}.npy"
    found = {texts.kind: _load(files[texts.kind], texts, encoding.verbose) for texts in (queries, corpus)}
    if any(embeddings is None for embeddings in found.values()):
        with pool_of(model, encoding.use_multi_process) as pool:
            for texts, encode in ((corpus, model.encode_document), (queries, model.encode_query)):
                if found[texts.kind] is None:
                    found[texts.kind] = embeddings = encode(
                        texts.texts,
                        pool=pool,
                        batch_size=encoding.batch_size,
                        normalize_embeddings=True,
                        convert_to_numpy=True,
                        show_progress_bar=encoding.verbose,
                        prompt_name=texts.prompt_name,
                        prompt=texts.prompt,
                    )
                    _check(f"model: embeddings of the {texts.plural}", embeddings, len(texts.texts))
                    _save(files[texts.kind], texts, embeddings, encoding.verbose)
    return _comparable(_as_float(found["query"]), _as_float(found["corpus"]))


@dataclass(frozen=True)
class _Texts:
    kind: str
    plural: str
    texts: list[str]
    prompt: str | None
    prompt_name: str | None

    def digest(self, base_model: str, block: int = 65536) -> str:
        """SHA-256 of ``repr((base_model, prompt, prompt_name, texts))``, computed a block of texts at a time."""
        digest = hashlib.sha256(usedforsecurity=False)
        digest.update(f"({base_model!r}, {self.prompt!r}, {self.prompt_name!r}, [".encode())
        for start in range(0, len(self.texts), block):
            digest.update((", " if start else "").encode() + repr(self.texts[start : start + block])[1:-1].encode())
        digest.update(b"])")
        return digest.hexdigest()


def _load(file: Path | None, texts: _Texts, verbose: bool) -> NDArray[Any] | None:
    if file is None or not file.exists():
        return None
    embeddings = np.load(file)
    _check(f"cache_folder: {file}", embeddings, len(texts.texts))
    if verbose:
        print(f"[Cache] Loaded {texts.kind} embeddings from {file} (shape={embeddings.shape})")  # noqa: T201
    return embeddings


def _save(file: Path | None, texts: _Texts, embeddings: NDArray[Any], verbose: bool) -> None:
    if file is None:
        return
    with atomic_file(file) as stream:
        np.save(stream, embeddings)
    if verbose:
        print(f"[Cache] Saved {texts.kind} embeddings to {file}")  # noqa: T201


def _check(name: str, embeddings: Any, rows: int) -> None:
    shape = getattr(embeddings, "shape", None)
    if shape is None or len(shape) != 2 or shape[0] != rows:
        raise ValueError(f"{name}: expected an array of shape ({rows}, d), one row for each text, got {shape}")
    # A float64 sum of squares of float32 values cannot overflow, so it is finite if and only if all values are.
    finite = np.isfinite(np.einsum("ij,ij->i", embeddings, embeddings, dtype=np.float64))
    if not finite.all():
        raise ValueError(f"{name}: expected finite values, got a NaN or an infinity in row {int(np.argmin(finite))}")


def _check_prompt_names(model: Any, encoding: Encoding) -> None:
    for argument in ("query_prompt_name", "corpus_prompt_name"):
        name, instead = getattr(encoding, argument), getattr(encoding, argument.removesuffix("_name"))
        prompts = getattr(model, "prompts", None) or {}
        if name is not None and instead is None and name not in prompts:
            raise ValueError(f"{argument}: expected one of the model's prompts, {sorted(prompts)}, got {name!r}")


def _as_float(embeddings: Any) -> Embeddings:
    array = np.asarray(embeddings)
    return np.ascontiguousarray(array, dtype=array.dtype if array.dtype == np.float16 else np.float32)


def _comparable(queries: Embeddings, corpus: Embeddings) -> tuple[Embeddings, Embeddings]:
    if queries.shape[1] != corpus.shape[1]:
        raise ValueError(
            "model: expected embeddings of one width, got "
            f"{queries.shape[1]} for queries and {corpus.shape[1]} for passages"
        )
    if queries.dtype != corpus.dtype:
        queries, corpus = queries.astype(np.float32), corpus.astype(np.float32)
    # A text without any known word can have an embedding of zeros, whose score with every text is defined as 0. Unit
    # vectors along two additional axes, one for queries and one for passages, give these scores.
    zero_queries, zero_passages = (np.logical_not(rows.any(axis=1)) for rows in (queries, corpus))
    if zero_queries.any() or zero_passages.any():
        return _widened(queries, zero_queries, 0), _widened(corpus, zero_passages, 1)
    return queries, corpus


def _widened(embeddings: Embeddings, ones: NDArray[np.bool_], column: int) -> Embeddings:
    more = np.zeros((len(embeddings), 2), embeddings.dtype)
    more[ones, column] = 1
    return _as_float(np.hstack([embeddings, more]))
