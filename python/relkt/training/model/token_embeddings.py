"""Freeze token embeddings, or train only the embeddings of tokens in the training texts."""

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


def check_token_embeddings(model: SentenceTransformer) -> None:
    """Check that a model has a table of token embeddings that can be frozen.

    Raises:
        ValueError: If there is no table.
    """
    if not _token_tables(model):
        raise ValueError(
            "freeze_embeddings: expected a model with a table of token embeddings, got a model without a table"
        )


@contextmanager
def frozen_embeddings(model: SentenceTransformer) -> Iterator[None]:
    """Exclude the token embeddings from training; embeddings of positions and token types are still trained.

    Args:
        model: The encoder.

    Raises:
        ValueError: If the model has no table of token embeddings.
    """
    check_token_embeddings(model)
    tables = _token_tables(model)
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
    """Train only the embeddings of tokens in the training texts.

    Without weight decay, the result is the same as if all embeddings were trained, because embeddings of tokens that do
    not occur never get a gradient. For a large table, this takes a fraction of the time and memory.

    Args:
        model: The encoder. If it has no :class:`PieceEmbedding` that can be trained, the context has no effect.
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
    """The token table that each transformers network names, and all tables of other modules."""
    networks = [m for m in model.modules() if isinstance(m, PreTrainedModel)]
    inside = {part for network in networks for part in network.modules()}
    tables: list[nn.Module] = [
        m for m in model.modules() if isinstance(m, PieceEmbedding | nn.Embedding | nn.EmbeddingBag) and m not in inside
    ]
    for network in networks:
        try:
            tables.append(network.get_input_embeddings())
        except NotImplementedError:  # a part without tokens, e.g. an image encoder
            continue
    return tables


def _token_rows(model: SentenceTransformer, texts: Iterable[str]) -> torch.Tensor:
    # Prompts are prepended to texts, so their tokens are trained too. The type is Any, because some models take inputs
    # other than texts.
    remaining: Iterator[Any] = chain((prompt for prompt in model.prompts.values() if prompt), texts)
    found: list[torch.Tensor] = []
    while chunk := list(islice(remaining, _TEXTS_AT_ONCE)):
        found.append(torch.unique(model.preprocess(chunk)["input_ids"]))
    rows: torch.Tensor = torch.unique(torch.cat(found))
    return rows
