"""Encoding of texts as unit vectors, with any sentence-transformers model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sentence_transformers import SentenceTransformer

Embeddings = npt.NDArray[np.float32]
Progress = Callable[[int], None]


def encode_queries(
    model: SentenceTransformer,
    texts: Sequence[str],
    *,
    batch_size: int = 32,
    progress: Progress | None = None,
    prompt: str | None = None,
) -> Embeddings:
    """Embeds questions, with the model's ``query`` prompt if it has one.

    Texts are embedded longest first, in batches of similar length; the result does not depend on the order of the
    texts. The model is in evaluation mode during the call, and in its former mode afterwards, even after an error.

    Args:
        model: Any sentence-transformers model.
        texts: The questions.
        batch_size: Texts per batch.
        progress: Called after each batch with the number of texts embedded since the last call.
        prompt: Text put before each question instead of the model's prompt; "" for no prompt. Default: the model's.

    Returns:
        float32, shape ``(len(texts), dim)``, unit rows in the order of ``texts``.

    Raises:
        TypeError: If ``texts`` is one text, or an element is not a text.
        ValueError: If ``batch_size`` is below 1, or an embedding is zero or not finite.
    """
    return _encode(model, model.encode_query, texts, batch_size, progress, prompt)


def encode_passages(
    model: SentenceTransformer,
    texts: Sequence[str],
    *,
    batch_size: int = 32,
    progress: Progress | None = None,
    prompt: str | None = None,
) -> Embeddings:
    """Embeds passages like :func:`encode_queries`, with the model's ``document`` prompt if it has one."""
    return _encode(model, model.encode_document, texts, batch_size, progress, prompt)


def _encode(
    model: SentenceTransformer,
    encode: Callable[..., Any],
    texts: Sequence[str],
    batch_size: int,
    progress: Progress | None,
    prompt: str | None,
) -> Embeddings:
    if isinstance(texts, str):
        raise TypeError("texts: expected a sequence of texts, got one text; put it in a list")
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"texts: expected texts (str), got {type(text).__name__} in row {row}")
    if batch_size < 1:
        raise ValueError(f"batch_size: expected at least 1, got {batch_size}")
    if prompt is not None and not isinstance(prompt, str):
        raise TypeError(f"prompt: expected a text or None, got {prompt!r}")

    dim = model.get_embedding_dimension()
    embeddings: Embeddings = np.empty((len(texts), dim or 0), dtype=np.float32)
    # Texts of equal length are sorted by content, so that batches are the same for any order of the input.
    order = sorted(range(len(texts)), key=lambda row: (-len(texts[row]), texts[row]))
    was_training = model.training
    try:
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            batch = encode(
                [texts[row] for row in rows],
                batch_size=batch_size,
                show_progress_bar=False,
                convert_to_numpy=True,
                prompt=prompt,
            )
            if embeddings.shape[1] != batch.shape[1]:
                embeddings = np.empty((len(texts), batch.shape[1]), dtype=np.float32)
            embeddings[rows] = _unit_rows(batch, rows)
            if progress is not None:
                progress(len(rows))
    finally:
        model.train(was_training)
    return embeddings


def _unit_rows(batch: npt.NDArray[Any], rows: Sequence[int]) -> Embeddings:
    batch = batch.astype(np.float32)
    norms = np.sqrt(np.einsum("ij,ij->i", batch, batch, dtype=np.float64))
    bad = np.flatnonzero(~(np.isfinite(norms) & (norms > 0)))
    if bad.size:
        raise ValueError(f"texts: the model's embedding of row {rows[bad[0]]} has the norm {norms[bad[0]]}")
    unit: Embeddings = (batch / norms[:, None]).astype(np.float32)
    return unit
