"""Which rows of the encoder's table of token embeddings are trained."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from torch import nn
from transformers import PreTrainedModel

from relkt.encoders.piece_embedding import PieceEmbedding

_TEXTS_AT_ONCE = 512


@contextmanager
def frozen_embeddings(model: SentenceTransformer) -> Iterator[None]:
    """Take the token embeddings out of training; embeddings of positions and token types stay in it.

    Args:
        model: The encoder.

    Raises:
        ValueError: If it has no table of token embeddings.
    """
    tables = _token_tables(model)
    if not tables:
        raise ValueError("freeze_embeddings: expected a model with a table of token embeddings, got one without")
    trained = [weight for table in tables for weight in table.parameters() if weight.requires_grad]
    for weight in trained:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in trained:
            weight.requires_grad_(True)


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


def _token_tables(model: SentenceTransformer) -> list[nn.Module]:
    """A transformers network says which of its tables is that of the tokens; other modules have no others."""
    networks = [m for m in model.modules() if isinstance(m, PreTrainedModel)]
    inside = {part for network in networks for part in network.modules()}
    tables: list[nn.Module] = [
        m for m in model.modules() if isinstance(m, PieceEmbedding | nn.Embedding | nn.EmbeddingBag) and m not in inside
    ]
    for network in networks:
        try:
            tables.append(network.get_input_embeddings())
        except NotImplementedError:  # a part that takes no tokens, such as the encoder of images
            continue
    return tables


def _token_rows(model: SentenceTransformer, texts: Iterable[str]) -> torch.Tensor:
    # Prompts are put before texts, so their tokens are trained too.
    # (Typed Any: models of sentence-transformers take other things than texts, in lists that may hold all of them.)
    remaining: Iterator[Any] = chain((prompt for prompt in model.prompts.values() if prompt), texts)
    found: list[torch.Tensor] = []
    while chunk := list(islice(remaining, _TEXTS_AT_ONCE)):
        found.append(torch.unique(model.preprocess(chunk)["input_ids"]))
    rows: torch.Tensor = torch.unique(torch.cat(found))
    return rows
