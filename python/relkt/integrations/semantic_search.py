"""A replacement of ``sentence_transformers.util.semantic_search`` by relkt's exact search."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relkt.arrays import Embeddings, as_count, is_tensor
from relkt.index import Index, search


def semantic_search(
    query_embeddings: Any,
    corpus_embeddings: Any,
    query_chunk_size: int = 100,
    corpus_chunk_size: int = 500000,
    top_k: int = 10,
    score_function: Callable[..., Any] | None = None,
) -> list[list[dict[str, int | float]]]:
    """Finds the passages of highest cosine for each query, like ``sentence_transformers.util.semantic_search``.

    Arguments and result are the same, with these differences:

    - The score is the cosine; another ``score_function`` is an error.
    - Scores are computed in double precision and rounded once, as in :meth:`relkt.Index.search`; equal scores are
      ordered by row. Scores of sentence-transformers have float32 rounding errors, and equal scores are in any order.
    - The matrix of all scores is never stored, so the chunk sizes have no effect.
    - Rows are searched as float32 or float16: bfloat16 is widened without loss, and float64 is rounded to float32. GPU
      tensors are copied to the CPU.
    - A zero row, or a row with a NaN or an infinity, is an error.

    Args:
        query_embeddings: (q, d) or (d,): a NumPy array, a torch tensor, or a list of such rows; of any norm.
        corpus_embeddings: (n, d), in the same forms; or a :class:`relkt.Index`, which is prepared once for many calls.
        query_chunk_size: No effect.
        corpus_chunk_size: No effect.
        top_k: Results for each query; all n if there are fewer. Default 10.
        score_function: None or ``sentence_transformers.util.cos_sim``; both are the cosine.

    Returns:
        For each query, best first, ``{"corpus_id": row, "score": cosine}``. Without queries, an empty list; without
        passages, an empty list for each query.

    Raises:
        TypeError: If embeddings are sparse, or not floating-point numbers.
        ValueError: If ``score_function`` is not the cosine, ``top_k`` is below 1, or as :meth:`relkt.Index.search`.
    """
    _check_cosine(score_function)
    for name, size in (("query_chunk_size", query_chunk_size), ("corpus_chunk_size", corpus_chunk_size)):
        as_count(name, size, "of at least 1", least=1)
    top_k = as_count("top_k", top_k, "of at least 1", least=1)
    queries = _rows("query_embeddings", query_embeddings)
    corpus = corpus_embeddings
    if not isinstance(corpus, Index):
        corpus = _rows("corpus_embeddings", corpus)
    if not len(queries) or not len(corpus):
        return [[] for _ in range(len(queries))]
    k = min(top_k, len(corpus))
    hits = corpus.search(queries, k) if isinstance(corpus, Index) else search(queries, corpus, k)
    return [
        [{"corpus_id": row, "score": score} for row, score in zip(rows, scores, strict=True)]
        for rows, scores in zip(hits.indices.tolist(), hits.scores.tolist(), strict=True)
    ]


def is_cosine(score_function: object) -> bool:
    """True for ``sentence_transformers.util.cos_sim``; needs no import, as a caller that passes it has imported it."""
    util = sys.modules.get("sentence_transformers.util")
    return util is not None and score_function is util.cos_sim


def as_float_rows(name: str, embeddings: Any) -> Embeddings:
    """Converts an array or tensor to an array of float32 or float16; bfloat16 is widened, float64 is rounded.

    Raises:
        TypeError: If it is sparse or has another dtype.
    """
    if is_tensor(embeddings):
        if embeddings.layout is not sys.modules["torch"].strided:
            raise TypeError(
                f"{name}: expected a dense tensor, got layout {embeddings.layout}; convert it with .to_dense()"
            )
        dtype = str(embeddings.dtype).removeprefix("torch.")
        if dtype == "bfloat16":
            embeddings = embeddings.float()
        elif dtype not in ("float16", "float32", "float64"):
            raise TypeError(f"{name}: expected a tensor of float16, bfloat16, float32 or float64, got {dtype}")
        embeddings = embeddings.detach().cpu().numpy()
    array: NDArray[Any] = np.asarray(embeddings)
    if array.dtype not in (np.float16, np.float32, np.float64):
        raise TypeError(f"{name}: expected embeddings of float16, float32 or float64, got {array.dtype}")
    rows: Embeddings = array.astype(np.float32) if array.dtype == np.float64 else array
    return rows


def _rows(name: str, embeddings: Any) -> Embeddings:
    """Converts embeddings in any form that sentence-transformers takes to an array (m, d)."""
    if isinstance(embeddings, list | tuple):
        parts = [as_float_rows(f"{name}: row {row}", part) for row, part in enumerate(embeddings)]
        if shapes := {part.shape for part in parts} - {parts[0].shape if parts else ()}:
            raise ValueError(f"{name}: expected rows of one shape, got {parts[0].shape} and {min(shapes)}")
        if not parts:
            return np.empty((0, 0), dtype=np.float32)
        stacked: NDArray[Any] = np.stack(parts)
        return stacked
    array = as_float_rows(name, embeddings)
    if array.ndim == 1 and len(array):
        return array[None, :]
    return array


def _check_cosine(score_function: object) -> None:
    if score_function is None or is_cosine(score_function):
        return
    name = getattr(score_function, "__name__", repr(score_function))
    raise ValueError(
        f"score_function: expected sentence_transformers.util.cos_sim or None, got {name}; relkt searches by cosine, "
        "which equals the dot product for unit rows"
    )
