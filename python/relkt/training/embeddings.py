"""Which rows of the encoder's table of token embeddings are trained."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice

import torch
from sentence_transformers import SentenceTransformer
from torch import nn

from relkt.encoders.piece_embedding import PieceEmbedding

_TEXTS_AT_ONCE = 512


@contextmanager
def frozen_embeddings(model: SentenceTransformer) -> Iterator[None]:
    """Take the token embeddings out of training.

    Args:
        model: The encoder.

    Raises:
        ValueError: If it has no table of token embeddings.
    """
    tables = [m for m in model.modules() if isinstance(m, PieceEmbedding | nn.Embedding | nn.EmbeddingBag)]
    if not tables:
        raise ValueError("freeze_embeddings: expected a model with a torch.nn.Embedding, got one without")
    trained = [table for table in tables if table.weight.requires_grad]
    for table in trained:
        table.weight.requires_grad_(False)
    try:
        yield
    finally:
        for table in trained:
            table.weight.requires_grad_(True)


@contextmanager
def limited_embeddings(model: SentenceTransformer, texts: Iterable[str]) -> Iterator[None]:
    """Train only the token embeddings that occur in the training texts, where the model can be told to.

    Without weight decay this gives the model that training all of them gives (the others have no gradient, ever),
    at a fraction of the time and memory for a large table.

    Args:
        model: The encoder; nothing is done to one without a :class:`PieceEmbedding`, or with a frozen one.
        texts: All texts trained on.
    """
    tables = [m for m in model.modules() if isinstance(m, PieceEmbedding) and m.weight.requires_grad]
    if tables:
        rows = _token_rows(model, texts)
        for table in tables:
            table.limit_training(rows)
    try:
        yield
    finally:
        for table in tables:
            table.train_all()


def _token_rows(model: SentenceTransformer, texts: Iterable[str]) -> torch.Tensor:
    # Prompts are put before texts, so their tokens are trained too.
    remaining = chain((prompt for prompt in model.prompts.values() if prompt), texts)
    tokenize = model.preprocess if hasattr(model, "preprocess") else model.tokenize  # its name in version 5
    found: list[torch.Tensor] = []
    while chunk := list(islice(remaining, _TEXTS_AT_ONCE)):
        found.append(torch.unique(tokenize(chunk)["input_ids"]))
    rows: torch.Tensor = torch.unique(torch.cat(found))
    return rows
